"""A run's reader as one HTML file that needs neither a server nor the network.

``python -m digits.report.draw RUN FILE`` writes it for the finished run in a folder. The page is
the drawing app's (``app/static``), with ``local.js`` in its kernel's place.
"""

import argparse
import base64
import hashlib
import json
import re
import zlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from jinja2 import Environment, FileSystemLoader

from digits.files import read_json, sha256, write_text
from digits.recognizer import Calibration, ink
from digits.recognizer.model import calibration_path

STATIC = Path(__file__).parents[1] / "app" / "static"  # the room itself is not entered
SCRIPTS = ("ink", "network", "segmentation", "occlusion", "view", "local", "app")
OPERATORS = {
    schema.BuiltinOperator.CONV_2D: "convolution",
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: "depthwise",
    schema.BuiltinOperator.MAX_POOL_2D: "pooling",
    schema.BuiltinOperator.FULLY_CONNECTED: "dense",
}
HARMLESS = (schema.BuiltinOperator.DEQUANTIZE, schema.BuiltinOperator.RESHAPE)


def network(path: Path) -> dict:
    """A LiteRT file of floating-point weights as ``network.js`` takes it: layers and weights.

    ValueError for what that script cannot compute: weights in 8 bits, other operators.
    """
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph, stored, layers, weights = model.subgraphs[0], {}, [], []
    types = {schema.TensorType.FLOAT32: "<f4", schema.TensorType.FLOAT16: "<f2"}

    def store(index: int) -> int:
        tensor = graph.tensors[stored.get(index, index)]
        if tensor.type not in types:
            raise ValueError(f"{path.name} holds weights that are no floating-point numbers.")
        data = np.frombuffer(bytes(model.buffers[tensor.buffer].data), types[tensor.type])
        weights.append(data.astype("<f2"))
        return len(data)

    for step in graph.operators:
        code, options = model.operatorCodes[step.opcodeIndex].builtinCode, step.builtinOptions
        if code == schema.BuiltinOperator.DEQUANTIZE:
            stored[step.outputs[0]] = step.inputs[0]
        if code in HARMLESS:
            continue
        kind, side = OPERATORS.get(code), graph.tensors[step.inputs[0]].shape[1]
        layer: dict = {"kind": kind}
        if kind == "pooling":
            layer["size"] = int(options.strideW)
            fits = options.padding == schema.Padding.SAME or side % layer["size"] == 0
        elif kind:
            shape = graph.tensors[step.inputs[1]].shape
            layer |= {"filters": int(shape[0])}
            layer |= {"kernel": store(step.inputs[1]), "bias": store(step.inputs[2])}
            relu = options.fusedActivationFunction == schema.ActivationFunctionType.RELU
            fits = not relu and (kind == "dense" or shape[1] == side)
        if kind == "convolution":
            layer |= {"size": int(shape[1]), "stride": int(options.strideW)}
            fits = relu and options.padding == schema.Padding.SAME
        if not kind or not fits:
            raise ValueError(f"{path.name} has an operator that the page does not know.")
        layers.append(layer)
    # Low bytes first, then the high ones, which are much alike.
    packed = zlib.compress(np.concatenate(weights).view("u1").reshape(-1, 2).T.tobytes(), 9)
    return {"layers": layers, "weights": base64.b64encode(packed).decode()}


def models(run: Path, metrics: dict) -> dict[str, dict]:
    """What the page reads with: the run's network first, then its smaller ones; {} for none."""
    found: dict[str, dict] = {}
    first = "float16" if (run / "models" / "float16.tflite").exists() else "float32"
    for path in sorted((run / "models").glob("*.tflite"), key=lambda path: path.stem != first):
        try:
            read = network(path)
        except ValueError:
            continue
        weights = sum(layer.get("kernel", 0) + layer.get("bias", 0) for layer in read["layers"])
        if path.stem == first or (found and weights < found[first]["parameters"] / 2):
            calibration = asdict(Calibration.read(calibration_path(path)))
            label = f"{path.stem} · {weights:,} weights"
            model = {"calibration": calibration, "label": label, "parameters": weights}
            found[path.stem] = read | model | {"sha256": sha256(path), "meaning": None}
    for pen in (part["pen"] for part in metrics.values() if "thresholds" in part.get("pen", {})):
        shares = {k: np.round(pen["thresholds"][k], 4).tolist() for k in ("answered", "right")}
        if found:  # measured for float32, which is the same network
            found[first]["meaning"] = shares | {"n": pen["n"]}
    return found


def page(run: Path, record: dict, metrics: dict, most: int | None = None) -> str:
    """The page for the run in a folder, with at most so many models; "" when it has none."""
    read = dict(list(models(run, metrics).items())[:most])
    if not read:
        return ""
    chosen, commit = next(iter(read)), (record.get("code") or {}).get("commit") or "not recorded"
    mnist = record.get("dataset", {}).get("name", "mnist") == "mnist"
    setup = {
        "notice": "" if mnist else "This network did not learn from MNIST. It errs more.",
        "chosen": chosen,
        "brushes": [8, 40],
        "examples": [
            {
                "name": one.name,
                "title": one.title,
                "strokes": [s.round(1).tolist() for s in one.strokes],
            }
            for one in ink.examples()
        ],
        "facts": [
            ["Run", run.name],
            ["Commit", commit[:10]],
            ["Model", f"{chosen}, SHA-256 {read[chosen]['sha256'][:12]}"],
        ],
    }
    texts = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    pieces = dict(re.findall(r"<!-- (\w+) -->\n(.*?)\s*(?=<!-- |\Z)", texts["page.html"], re.S))
    inline = {
        "style": texts["app.css"],
        "script": "".join(texts[f"{name}.js"] for name in SCRIPTS) + "local.start();\n",
    }
    hashes = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for kind, text in inline.items()
    }
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent / "template"))
    return environment.get_template("draw.html.j2").render(
        pieces=pieces, setup=_compact(setup), models=_compact(read), hashes=hashes, **inline
    )


def _compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def main(arguments: list[str] | None = None) -> None:
    """Write the page of a finished run."""
    parser = argparse.ArgumentParser(prog="python -m digits.report.draw", description=main.__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("file", type=Path, help="the page to write")
    options = parser.parse_args(arguments)
    record, metrics = (read_json(options.run / name) for name in ("run.json", "metrics.json"))
    write_text(options.file, page(options.run, record, metrics))


if __name__ == "__main__":
    main()

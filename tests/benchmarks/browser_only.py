"""The route to no server at all: the app's ``ink``, its calibration and the network in NumPy give LiteRT's answers.

    python tests/benchmarks/browser_only.py [--pyodide FOLDER] [--most N] [--output FILE.json]

Nothing in the way from a stroke to an answer needs more than NumPy and Pillow, so that Python in the browser (Pyodide, on
which JupyterLite and Voici stand) can go it, for any number of visitors, from a web server that only hands out files. First
this is measured in Python as it is here, on MNIST's test images and on the pen digits of unseen writers; then, with
``--pyodide``, inside Pyodide under Node and in Chromium. That folder holds the npm package ``pyodide`` and beside it the
wheels of NumPy and Pillow that its ``pyodide-lock.json`` names, whose hashes are checked; they are part of Pyodide's full
release, not of PyPI.

What else the way would take. The widgets: Voici serves a notebook with ipywidgets and ipycanvas as JupyterLite does, with
the kernel in a worker of the browser, so that ``pad``, ``page`` and ``app`` could stay. ``recognizer`` imports LiteRT at its
top and would have to choose ``numpy_net`` instead, which reads the float32 file only. ``photo`` needs OpenCV, which Pyodide
has, and which a page should load only for a picture. Feedback is the one thing that still wants a server. The content
security policy must allow ``'wasm-unsafe-eval'``. And the first visit costs a download of what is printed as ``downloads``,
against some hundred kilobytes today: a small server answers a phone sooner, and no server bears any number of visitors.
"""

import argparse
import base64
import functools
import gzip
import hashlib
import http.server
import io
import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import numpy_net
from ai_edge_litert import schema_py_generated as schema
from playwright.sync_api import sync_playwright
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import browser  # noqa: E402  the tests' own helper
from digits import data
from digits import files as paths
from digits.recognizer import ink
from digits.recognizer.model import Recognizer  # noqa: E402
from digits.run import comparison

PACKAGES = ("numpy", "pillow")
RUNTIME = (
    "pyodide.mjs",
    "pyodide.asm.js",
    "pyodide.asm.wasm",
    "python_stdlib.zip",
    "pyodide-lock.json",
)

# What the page would do with each drawing. Runs in Pyodide, beside the files that ``laid_out`` puts there.
PROGRAM = """
import base64, io, json, time
import numpy as np
import numpy_net
from digits import ink
from digits.recognizer.calibration import Calibration
from pathlib import Path

layers = json.loads(Path("layers.json").read_text())
weights = np.load("weights.npz")
layers = [tuple(weights[one] if isinstance(one, str) and one in weights else one for one in layer) for layer in layers]
calibration = Calibration.read(Path("calibration.json"))
images, logits, seconds = [], [], []
for strokes in json.loads(Path("strokes.json").read_text()):
    started = time.perf_counter()
    image = ink.strokes_to_image([np.array(stroke) for stroke in strokes])
    drawn = time.perf_counter()
    one = numpy_net.logits(layers, image[None])[0]
    calibration.probabilities(one), calibration.reason(one)
    seconds.append((drawn - started, time.perf_counter() - drawn))
    images.append(image), logits.append(one)
np.savez_compressed(content := io.BytesIO(), images=images, logits=logits, seconds=seconds)
base64.b64encode(content.getvalue()).decode()
"""

MEASURE = """export async function measure(loadPyodide, indexURL, names, read) {
    const times = {}, began = performance.now();
    const pyodide = await loadPyodide({indexURL});
    times.runtime_ms = performance.now() - began;
    await pyodide.loadPackage(["numpy", "pillow"]);
    times.packages_ms = performance.now() - began - times.runtime_ms;
    pyodide.FS.mkdirTree("/home/pyodide/digits");
    for (const name of names) pyodide.FS.writeFile("/home/pyodide/" + name, await read(name));
    pyodide.runPython("import numpy_net; from digits.recognizer import ink; from digits.recognizer import calibration");
    times.ready_ms = performance.now() - began;
    const version = pyodide.version + ", Python " + pyodide.runPython("import sys; sys.version.split()[0]");
    const result = pyodide.runPython(await read("program.py", "utf8"));
    return {times, version, result};
}"""

NODE = """import {readFileSync, writeFileSync} from "node:fs";
import {loadPyodide} from "./pyodide/pyodide.mjs";
import {measure} from "./measure.mjs";
const names = JSON.parse(readFileSync("names.json", "utf8"));
const read = (name, coding) => readFileSync(name, coding);
writeFileSync("result.json", JSON.stringify(await measure(loadPyodide, process.cwd() + "/pyodide/", names, read)));"""

PAGE = """<!DOCTYPE html><title>Digits</title><script type=module>
import {loadPyodide} from "./pyodide/pyodide.mjs";
import {measure} from "./measure.mjs";
const read = async (name, coding) => {
    const reply = await fetch(name);
    return coding ? reply.text() : new Uint8Array(await reply.arrayBuffer());
};
const names = JSON.parse(await read("names.json", "utf8"));
window.run = () => measure(loadPyodide, new URL("pyodide/", location).href, names, read);
</script>"""


def read_layers(path: Path) -> list[tuple]:
    """The layers of a float32 LiteRT file for ``numpy_net``; ValueError for one that it cannot compute."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph, kinds = model.subgraphs[0], schema.BuiltinOperator

    def constant(index: int) -> np.ndarray:
        tensor = graph.tensors[index]
        if tensor.type != schema.TensorType.FLOAT32:
            raise ValueError(f"{path.name} holds weights that are not float32.")
        return np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32).reshape(
            tensor.shape
        )

    layers = []
    for step in graph.operators:
        kind, options = model.operatorCodes[step.opcodeIndex].builtinCode, step.builtinOptions
        same = getattr(options, "padding", schema.Padding.SAME) == schema.Padding.SAME
        active = getattr(options, "fusedActivationFunction", 0)
        if kind == kinds.CONV_2D and same and active == schema.ActivationFunctionType.RELU:
            layers.append(("convolution", int(options.strideW), *map(constant, step.inputs[1:])))
        elif kind == kinds.MAX_POOL_2D and same and options.filterWidth == options.strideW:
            layers.append(("pooling", int(options.strideW)))
        elif kind == kinds.FULLY_CONNECTED and not active:
            layers.append(("dense", *map(constant, step.inputs[1:])))
        elif kind != kinds.RESHAPE:
            raise ValueError(
                f"{path.name} holds an operator (number {kind}) that numpy_net does not compute."
            )
    return layers


def compared(mine: np.ndarray, theirs: np.ndarray) -> dict:
    """How far two networks' logits (n, 10) lie apart."""
    return {
        "n": len(mine),
        "greatest_difference": float(np.abs(mine - theirs).max()),
        "greatest_logit": float(np.abs(theirs).max()),
        "same_digit": int((mine.argmax(1) == theirs.argmax(1)).sum()),
    }


def timed(call, images: np.ndarray) -> float:
    """Median milliseconds for one image on one thread."""
    taken = []
    with threadpool_limits(1):
        for image in images:
            started = time.perf_counter()
            call(image)
            taken.append(time.perf_counter() - started)
    return round(1000 * float(np.median(taken[10:])), 3)


def here(recognizer: Recognizer, layers: list[tuple], pen: np.ndarray) -> dict:
    """NumPy against LiteRT in this Python: pen digits (n, 28, 28), and MNIST's test images."""
    test = data.load("mnist").x_test.reshape(-1, 28, 28)

    def in_numpy(images: np.ndarray) -> np.ndarray:
        return np.concatenate(
            [numpy_net.logits(layers, images[k : k + 200]) for k in range(0, len(images), 200)]
        )

    return {
        "mnist_test": compared(in_numpy(test), recognizer.model.logits(test)),
        "pen_digits": compared(in_numpy(pen), recognizer.model.logits(pen)),
        "numpy_ms": timed(lambda image: numpy_net.logits(layers, image[None]), pen[:500]),
        "litert_ms": timed(recognizer.model.logits, pen[:500]),
    }


# --- In Pyodide -------------------------------------------------------------------------------------------------------


def checked(folder: Path) -> list[Path]:
    """The files of Pyodide that a page needs; SystemExit when one is missing or not the one that its lock names."""
    lock = json.loads((folder / "pyodide-lock.json").read_text(encoding="utf-8"))["packages"]
    for name in PACKAGES:
        path = folder / lock[name]["file_name"]
        if (
            not path.is_file()
            or hashlib.sha256(path.read_bytes()).hexdigest() != lock[name]["sha256"]
        ):
            raise SystemExit(
                f"{path.name} is missing in the folder, or is not the file that pyodide-lock.json names."
            )
    return [folder / name for name in (*RUNTIME, *(lock[name]["file_name"] for name in PACKAGES))]


def laid_out(
    folder: Path, pyodide: list[Path], run: str, layers: list[tuple], strokes: list
) -> dict:
    """Put a page that needs no server into ``folder``; how many bytes each part has, and gzipped."""
    (folder / "pyodide").mkdir()
    for path in pyodide:
        shutil.copy(path, folder / "pyodide")
    arrays, named = {}, []
    for number, layer in enumerate(layers):
        named.append(
            [f"{number}_{k}" if isinstance(one, np.ndarray) else one for k, one in enumerate(layer)]
        )
        arrays |= {
            f"{number}_{k}": one for k, one in enumerate(layer) if isinstance(one, np.ndarray)
        }
    np.savez(folder / "weights.npz", **arrays)
    source = Path(ink.__file__).parent
    files = {
        "digits/__init__.py": "",
        "numpy_net.py": Path(numpy_net.__file__).read_text(encoding="utf-8"),
        **{
            f"digits/{name}.py": (source / f"{name}.py").read_text(encoding="utf-8")
            for name in ("ink", "calibration")
        },
        "layers.json": json.dumps(named),
        "strokes.json": json.dumps(strokes),
        "calibration.json": (paths.OUTPUTS / run / "models" / "calibration.json").read_text(
            encoding="utf-8"
        ),
    }
    (folder / "digits").mkdir()
    for name, text in {
        **files,
        "program.py": PROGRAM,
        "measure.mjs": MEASURE,
        "node.mjs": NODE,
        "index.html": PAGE,
        "names.json": json.dumps([*files, "weights.npz"]),
    }.items():
        (folder / name).write_text(text, encoding="utf-8")
    parts = {
        "Python": [folder / "pyodide" / name for name in RUNTIME],
        "NumPy and Pillow": [
            folder / "pyodide" / path.name for path in pyodide if path.suffix == ".whl"
        ],
        "the reader": [folder / name for name in (*files, "weights.npz") if name != "strokes.json"],
    }
    return {
        name: {
            "bytes": sum(one.stat().st_size for one in some),
            "gzipped": sum(len(gzip.compress(one.read_bytes())) for one in some),
        }
        for name, some in parts.items()
    }


def in_node(folder: Path) -> dict:
    """Under Node; RuntimeError when it fails."""
    reply = subprocess.run(["node", "node.mjs"], cwd=folder, capture_output=True, text=True)
    if reply.returncode:
        raise RuntimeError(f"Node failed:\n{reply.stderr[-2000:]}")
    return json.loads((folder / "result.json").read_text())


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Hands out files and says nothing."""

    def log_message(self, *_) -> None:
        """Say nothing."""


def in_chromium(folder: Path) -> list[dict]:
    """In Chromium, twice: the second time it has the files, and what it compiled, already."""
    handler = functools.partial(Quiet, directory=folder)
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as files,
        sync_playwright() as playwright,
    ):
        threading.Thread(target=files.serve_forever, daemon=True).start()
        chromium = browser.launch(playwright)
        page = chromium.new_page()
        page.set_default_timeout(0)
        found = []
        for _ in range(2):
            page.goto(f"http://127.0.0.1:{files.server_port}/index.html")
            page.wait_for_function("window.run")
            found.append(
                {**page.evaluate("window.run()"), "browser": f"Chromium {chromium.version}"}
            )
        chromium.close()
        files.shutdown()
    return found


def judged(reply: dict, images: np.ndarray, recognizer: Recognizer) -> dict:
    """What came of one run in Pyodide, against what comes of the same strokes here: ``images`` (n, 28, 28) and LiteRT."""
    with np.load(io.BytesIO(base64.b64decode(reply["result"]))) as arrays:
        theirs, logits, seconds = arrays["images"], arrays["logits"], arrays["seconds"]
    expected = recognizer.model.logits(images)
    reasons = sum(
        recognizer.calibration.reason(a) == recognizer.calibration.reason(b)
        for a, b in zip(logits, expected, strict=True)
    )
    ink_ms, network_ms = 1000 * np.median(seconds, axis=0)
    return {
        "version": reply["version"],
        **({"browser": reply["browser"]} if "browser" in reply else {}),
        **{name: round(value) for name, value in reply["times"].items()},
        "pictures_identical": int((theirs == images).all((1, 2)).sum()),
        "greatest_difference_of_a_pixel": float(np.abs(theirs - images).max()),
        **compared(logits, expected),
        "same_reason": reasons,
        "ink_ms": round(float(ink_ms), 2),
        "network_ms": round(float(network_ms), 2),
        "p95_ms": round(1000 * float(np.percentile(seconds.sum(1), 95)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--pyodide", type=Path, help="a folder with Pyodide and its wheels of NumPy and Pillow"
    )
    parser.add_argument("--most", type=int, help="so many pen digits (default: all)")
    parser.add_argument("--output", type=Path, help="where the figures go as JSON")
    options = parser.parse_args()
    recognizer = Recognizer.load(model="float32")
    layers = read_layers(paths.OUTPUTS / recognizer.run / "models" / "float32.tflite")
    strokes = [
        [(stroke * (ink.CANVAS / data.TABLET)).tolist() for stroke in one.strokes]
        for one in data.load_pen_digits("tes")[: options.most]
    ]
    images = np.stack(
        [ink.strokes_to_image([np.array(stroke) for stroke in one]) for one in strokes]
    )
    found = {
        "machine": comparison.machine(),
        "run": recognizer.run,
        "model_sha256": recognizer.sha256,
        "python": here(recognizer, layers, images),
    }
    if options.pyodide:
        with tempfile.TemporaryDirectory() as name:
            found["downloads"] = laid_out(
                Path(name), checked(options.pyodide), recognizer.run, layers, strokes
            )
            found["node"] = judged(in_node(Path(name)), images, recognizer)
            found["chromium"], found["chromium_again"] = (
                judged(one, images, recognizer) for one in in_chromium(Path(name))
            )
    print(json.dumps(found, indent=1))
    if options.output:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

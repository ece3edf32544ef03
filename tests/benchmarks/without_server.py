"""Can a page read digits without a server? Ink, network and segmentation in JavaScript against Python's.

    DIGITS_DATA=FOLDER python tests/benchmarks/without_server.py [--most N]

The picture that Pillow draws cannot be carried over to a browser to the bit; one that whole numbers decide can. So the
ink here is exact: thousandths of a pixel, a mask of all pixels within a pen's radius of a segment, area averaging with
whole-number weights. Prints how many pictures of pen digits and of random strokes are identical in both languages, how far
the logits lie from LiteRT's, whether the answers are the same, and how many digits change against today's ink. Needs Node.
"""

import argparse
import base64
import json
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from digits import data, files
from digits.recognizer import Recognizer, ink, segmentation

SCRIPTS = ("ink.js", "network.js", "segmentation.js")
RADIUS = 12_000.0  # thousandths of a pixel: half of MNIST's pen on the extent that ink is drawn at
PROGRAM = """
const fs = require("fs"), given = JSON.parse(fs.readFileSync(0)), model = network.unpacked(given.model);
const timed = call => { const start = performance.now(); return [call(), (performance.now() - start) / given.strokes.length]; };
const [images, ink_ms] = timed(() => given.strokes.map(strokes => ink.strokesToImage(strokes)));
const [logits, network_ms] = timed(() => images.map(image => Array.from(network.logits(model.layers, image))));
const predict = strokes => {
  const found = network.predict(model, ink.strokesToImage(strokes));
  return found.accepted && ink.extent(strokes) < ink.CANVAS * ink.DOT ? {...found, accepted: false, reason: "not a digit"} : found;
};
const answers = given.rows.map(strokes => segmentation.read(strokes, predict).map(({prediction: p}) => [p.digit, p.reason]));
console.log(JSON.stringify({images: images.map(image => Array.from(image)), logits, answers, ink_ms, network_ms}));
"""


def mask(strokes: list[np.ndarray]) -> np.ndarray:
    """All pixels within a pen's radius of the strokes, (n, 2) each, in thousandths of a pixel."""
    found = np.zeros((ink.CANVAS, ink.CANVAS), bool)
    for stroke in strokes:
        starts, ends = stroke[: max(len(stroke) - 1, 1)], stroke[1:] if len(stroke) > 1 else stroke
        for a, b in zip(starts, ends, strict=True):
            first = np.maximum(np.ceil((np.minimum(a, b) - RADIUS) / 1000), 0).astype(int)
            last = np.minimum(np.floor((np.maximum(a, b) + RADIUS) / 1000), ink.CANVAS - 1).astype(
                int
            )
            x = np.arange(first[0], last[0] + 1) * 1000.0 - a[0]
            y = (np.arange(first[1], last[1] + 1) * 1000.0 - a[1])[:, None]
            dx, dy = b - a
            along, across, length = x * dx + y * dy, x * dy - y * dx, dx * dx + dy * dy
            near = (x * x + y * y <= RADIUS**2) | ((x - dx) ** 2 + (y - dy) ** 2 <= RADIUS**2)
            inside = (along >= 0) & (along <= length) & (length > 0)
            near |= inside & (across * across <= RADIUS**2 * length)
            found[first[1] : last[1] + 1, first[0] : last[0] + 1] |= near
    return found


def shares(n: int, m: int) -> np.ndarray:
    """(m, n): of each of n pixels, cut into m parts, how many each of m cells takes."""
    pixel, cell = np.arange(n)[None] * m, np.arange(m)[:, None] * n
    return np.maximum(np.minimum(pixel + m, cell + n) - np.maximum(pixel, cell), 0).astype(float)


def exact_image(strokes: list, size: int = ink.CANVAS) -> np.ndarray:
    """As ``ink.strokes_to_image``, by whole numbers."""
    strokes = [np.clip(stroke, 0, size) for stroke in ink.check_strokes(strokes)]
    result = np.zeros((ink.SIDE, ink.SIDE), np.float32)
    if not strokes:
        return result
    points = np.concatenate(strokes)
    low, high = points.min(0), points.max(0)
    scale = ink.EXTENT / max((high - low).max(), size * ink.SMALLEST)
    moved = [(stroke - (low + high) / 2) * scale + ink.CANVAS / 2 for stroke in strokes]
    drawn = mask([np.floor(1000 * stroke + 0.5) for stroke in moved])
    rows, columns = np.flatnonzero(drawn.any(1)), np.flatnonzero(drawn.any(0))
    crop = drawn[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(float)
    longest = max(crop.shape)
    h, w = (max((2 * n * ink.BOX + longest) // (2 * longest), 1) for n in crop.shape)
    sums = shares(crop.shape[0], h) @ crop @ shares(crop.shape[1], w).T
    total, across, down = (
        int(one) for one in (sums.sum(), sums.sum(0) @ range(w), sums.sum(1) @ range(h))
    )
    left = min(max((29 * total - 2 * across) // (2 * total), 0), ink.SIDE - w)
    top = min(max((29 * total - 2 * down) // (2 * total), 0), ink.SIDE - h)
    result[top : top + h, left : left + w] = sums / crop.size
    return result


def layers(path: Path) -> list[dict]:
    """A float16 LiteRT file's layers as the page takes them: weights in Base64."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    graph, kinds, stored, found = model.subgraphs[0], schema.BuiltinOperator, {}, []

    def weights(index: int) -> np.ndarray:
        tensor = graph.tensors[stored.get(index, index)]
        return np.frombuffer(bytes(model.buffers[tensor.buffer].data), "<f2").reshape(tensor.shape)

    def packed(index: int) -> str:
        return base64.b64encode(weights(index).tobytes()).decode()

    for step in graph.operators:
        kind, options = model.operatorCodes[step.opcodeIndex].builtinCode, step.builtinOptions
        if kind == kinds.DEQUANTIZE:
            stored[step.outputs[0]] = step.inputs[0]
        elif kind == kinds.MAX_POOL_2D:
            found.append({"kind": "pooling", "size": int(options.strideW)})
        elif kind in (kinds.CONV_2D, kinds.FULLY_CONNECTED):
            layer = {"kernel": packed(step.inputs[1]), "bias": packed(step.inputs[2])}
            if kind == kinds.CONV_2D:
                filters, size = weights(step.inputs[1]).shape[:2]
                layer |= {"filters": filters, "size": size, "stride": int(options.strideW)}
            found.append({"kind": "convolution" if kind == kinds.CONV_2D else "dense", **layer})
    return found


def random_strokes(rng: np.random.Generator) -> list:
    """Short and long, off the pad, duplicate points, one point, huge and tiny."""
    found = []
    for _ in range(rng.integers(1, 4)):
        n, spread = rng.integers(1, 30), rng.choice([0.01, 1, 8, 30, 100])
        stroke = rng.uniform(-40, 320, 2) + np.cumsum(rng.normal(0, spread, (n, 2)), 0)
        found.append(np.repeat(stroke, 2 if rng.random() < 0.3 else 1, 0).tolist())
    return found


def main() -> None:
    """Compare, print as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=int, default=500, help="pen digits, and random drawings")
    most = parser.parse_args().most
    recognizer = Recognizer.load("reference", "float16")
    scale = ink.CANVAS / data.TABLET
    pen = [
        [(s * scale).tolist() for s in one.strokes] for one in data.load_pen_digits("tra")[:most]
    ]
    rng = np.random.default_rng(0)
    strokes = pen + [random_strokes(rng) for _ in range(most)]
    place = np.array([[10, 90], [95, 90], [180, 90]])
    rows = [
        [(np.array(s) * 0.33 + place[k]).tolist() for k in range(3) for s in pen[i + k]]
        for i in range(0, most - 2, 3)
    ]
    today = recognizer.model.logits(np.stack([ink.strokes_to_image(one) for one in pen]))
    folder = Path(__file__).with_suffix("")
    source = "".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS) + PROGRAM
    model = {
        "layers": layers(files.REFERENCE / "models" / "float16.tflite"),
        "calibration": vars(recognizer.calibration),
    }
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "twin.js").write_text(source, encoding="utf-8")
        given = json.dumps({"model": model, "strokes": strokes, "rows": rows})
        reply = subprocess.run(
            ["node", f"{name}/twin.js"], input=given, capture_output=True, text=True, check=True
        )
    theirs = json.loads(reply.stdout)
    images = np.stack([exact_image(one) for one in strokes])
    logits = recognizer.model.logits(images)
    ink.strokes_to_image = exact_image  # what the recognizer would see
    answers = [
        [
            [p.prediction.digit, p.prediction.reason]
            for p in segmentation.read(recognizer.predict_strokes, row).parts
        ]
        for row in ([np.array(s) for s in row] for row in rows)
    ]
    same = (np.array(theirs["images"]).reshape(images.shape) == images).all((1, 2))
    print(
        json.dumps(
            {
                "pictures": len(images),
                "identical": int(same.sum()),
                "logits_apart": float(np.abs(logits - np.array(theirs["logits"])).max()),
                "rows": len(rows),
                "same_answer": sum(a == b for a, b in zip(answers, theirs["answers"], strict=True)),
                "same_digit_as_today": int((today.argmax(1) == logits[: len(pen)].argmax(1)).sum()),
                **{key: round(theirs[key], 2) for key in ("ink_ms", "network_ms")},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

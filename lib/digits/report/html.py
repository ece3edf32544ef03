"""A run as HTML files that need nothing else, and the READMEs' tables of numbers.

The report is the executed notebooks. The reader is the app's page, with ``local.js`` as kernel.

``python -m digits.report.html RUN FILE`` builds the report of the finished run in a folder anew;
of a README.md it renews the tables from that run's numbers, draw.html becomes the run's reader.
"""

import argparse
import base64
import hashlib
import json
import re
import zlib
from dataclasses import asdict
from datetime import timedelta
from html import escape
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from bs4 import BeautifulSoup, Tag
from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from nbconvert import HTMLExporter

from digits.files import NOTEBOOKS, listed, read_json, read_pieces, write_text
from digits.recognizer import Calibration, ink
from digits.recognizer.model import calibration_path

TEMPLATE = Path(__file__).parent / "template"
FRONT = NOTEBOOKS / "front.md.j2"
APP_PICTURE = NOTEBOOKS / "images" / "app.png"
STATIC = Path(__file__).parents[1] / "app" / "static"  # the room itself is not entered
EXAMPLES = Path(ink.__file__).with_name("examples.json")
SCRIPTS = ("ink", "network", "segmentation", "occlusion", "view", "local", "app")
KINDS = {"CONV_2D": "convolution", "DEPTHWISE_CONV_2D": "depthwise", "FULLY_CONNECTED": "dense"}
KINDS |= {"MAX_POOL_2D": "pooling", "DEQUANTIZE": "", "RESHAPE": ""}  # LiteRT's names and ours
_BLOCK = re.compile(r"(<!-- (results|aims):.*?-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def build(executed: list[Path], record: dict, metrics: dict, alive: str = "") -> str:
    """The report of a run from its executed notebooks, ``run.json`` and ``metrics.json``.

    Each notebook is a chapter. alive: the page that the first picture becomes, see ``readers``.
    """
    mnist = record["dataset"].get("name", "mnist") == "mnist"
    page = {
        "record": record,
        "mnist": mnist,
        "duration": str(timedelta(seconds=round(record["seconds"]))),
        "headlines": listed(metrics, "headlines"),
        "aims": listed(metrics, "aims"),
        "front": front(FRONT, metrics) if mnist else {},  # its sentences are about MNIST
        "app": base64.b64encode(APP_PICTURE.read_bytes()).decode(),
        "reader": alive,
    }
    exporter = HTMLExporter(
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_anchor_links=True,
    )
    html, _ = exporter.from_notebook_node(merge(executed), {"page": page})
    soup = BeautifulSoup(html, "html.parser")
    box = {"class": "scroll", "role": "region", "aria-label": "Table", "tabindex": "0"}
    for table in soup.find_all("table"):  # each scrolls sideways where the screen is narrower
        table.wrap(soup.new_tag("div", attrs=box))
    gather_code(soup)
    link_chapters(soup)
    number_headings(soup)
    return str(soup)


def merge(executed: list[Path]) -> nbformat.NotebookNode:
    """All notebooks as one, each cell knowing its chapter; without cells that only name the run."""
    cells: list[nbformat.NotebookNode] = []
    for path in executed:
        for cell in nbformat.read(path, as_version=4).cells:
            only_name = re.fullmatch(r"\s*# Parameters\s+run_name = .*", cell.source.strip())
            if not ("injected-parameters" in cell.metadata.get("tags", []) and only_name):
                cell.metadata["chapter"] = int(path.name[:2])
                cell["id"] = f"cell-{len(cells)}"
                cells.append(cell)
    language = {"name": "python", "pygments_lexer": "ipython3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"language_info": language})


def front(template: Path, metrics: dict) -> dict[str, dict[str, list[str]]]:
    """The sentences of a template by heading and subheading, without those that lack a number.

    ``template`` is Markdown with a sentence a line, each a Jinja template of its own. A notebook's
    numbers have its name without the digits; ``form`` formats a value.
    """
    environment = Environment(undefined=StrictUndefined)
    environment.filters["form"] = format
    numbers = {name.partition("_")[2]: chapter for name, chapter in metrics.items()}
    sections: dict[str, dict[str, list[str]]] = {}
    heading = subheading = ""
    for line in template.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            heading, subheading = line[3:], ""
        elif line.startswith("### "):
            subheading = line[4:]
        else:
            try:
                sentence = environment.from_string(line).render(numbers)
            except (UndefinedError, TypeError):  # TypeError: a number that is None
                continue
            if sentence:
                sections.setdefault(heading, {}).setdefault(subheading, []).append(sentence)
    return sections


def gather_code(soup: BeautifulSoup) -> None:
    """Fold the code of a section into one place, at its first cell."""
    first: Tag | None = None
    for one in soup.select("section.chapter h1, section.chapter h2, details.code"):
        if one.name != "details":
            first = None
        elif not one.summary.get_text().startswith("Code"):
            continue
        elif first is None:
            first = one
        else:
            count, more = first.select_one(".lines"), one.select_one(".lines")
            lines = sum(int(each.get_text().split()[0]) for each in (count, more))
            count.string = f"{lines} lines"
            one.summary.extract()
            first.extend(list(one.children))
            one.decompose()


def link_chapters(soup: BeautifulSoup) -> None:
    """Let links between notebooks lead to chapters; links to other files become plain text."""
    for pointer in soup.select('p:has(a[href$="report.html"])'):
        pointer.decompose()  # to the report, for who reads the notebook
    for link in soup.find_all("a", href=re.compile(r"^(?!https?:|#)")):
        number = re.match(r"(\d\d)_\w+\.ipynb", str(link["href"]))
        if number and soup.find(id=f"chapter-{int(number[1])}"):
            link["href"] = f"#chapter-{int(number[1])}"
        else:
            link.unwrap()


def number_headings(soup: BeautifulSoup) -> None:
    """Number headings ("1.1") by their notebook's number; list them and appendices as contents."""
    contents = soup.select_one("nav.contents ol")
    for section in soup.find_all("section", id=re.compile(r"^chapter-\d+$")):
        counts = [int(str(section["id"]).removeprefix("chapter-")) - 1, 0, 0]
        for heading in section.find_all(["h1", "h2", "h3"]):
            level = int(heading.name[1])
            counts[level - 1] += 1
            counts[level:] = [0] * (3 - level)
            number = ".".join(map(str, counts[:level]))
            heading["id"] = "section-" + number.replace(".", "-")
            entry = _entry(number, heading)
            if level == 1:
                contents.append(entry)
                entry.append(soup.new_tag("ol"))
            elif level == 2 and contents.find("li"):
                contents.find_all("li", recursive=False)[-1].ol.append(entry)
            shown = soup.new_tag("span", attrs={"class": "number"})
            shown.string = f"Chapter {number}" if level == 1 else number
            heading.insert(0, shown)
    for heading in soup.select("main h1.plain"):
        contents.append(_entry("+", heading))


def _entry(number: str, heading: Tag) -> Tag:
    """A line of the contents."""
    words = escape(heading.get_text(strip=True))
    link = (
        f'<a href="#{heading["id"]}"><span class="number">{number}</span><span>{words}</span></a>'
    )
    return BeautifulSoup(f"<li>{link}</li>", "html.parser").li


def renewed(text: str, metrics: dict, record: dict) -> str:
    """A README's ``text``, its marked tables made from a run's numbers: none is typed by hand."""
    environment = Environment(loader=FileSystemLoader(TEMPLATE), trim_blocks=True)
    numbers = {kind: listed(metrics, kind) for kind in ("headlines", "aims")} | {"record": record}

    def table(block: re.Match) -> str:
        made = environment.get_template(f"{block[2]}.md.j2").render(numbers)
        return f"{block[1]}{made.strip()}\n{block[3]}"

    return _BLOCK.sub(table, text)


def readers(run: Path, record: dict, metrics: dict) -> tuple[str, str]:
    """A run's reader with its network alone, and with all models that fit; "" where none does."""
    models = stored_models(run, metrics)
    if not models:
        return "", ""
    chosen = next(iter(models))
    sha256, commit = models[chosen].pop("sha256"), (record.get("code") or {}).get("commit") or "?"
    facts = {"Run": run.name.removesuffix(".building"), "Commit": commit[:12]}
    facts |= {"Model": f"{chosen}, SHA-256 {sha256[:12]}"}
    setup = {"chosen": chosen, "facts": list(facts.items())}
    mnist = record["dataset"].get("name", "mnist") == "mnist"
    setup["notice"] = "" if mnist else "This network did not learn from MNIST. It errs more."
    setup["examples"] = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    texts = {path.name: path.read_text(encoding="utf-8") for path in STATIC.iterdir()}
    script = "".join(texts[f"{name}.js"] for name in SCRIPTS) + "local.start();\n"
    environment = Environment(loader=FileSystemLoader(TEMPLATE))
    environment.filters["sha256"] = _sha256
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    page = {
        "pieces": read_pieces(STATIC / "page.html"),
        "style": texts["app.css"],
        "script": script,
        "setup": setup,
        "app": max(NOTEBOOKS.glob("*.ipynb")).name,
    }
    template, first = environment.get_template("draw.html.j2"), {chosen: models[chosen]}
    whole = template.render(page, models=models, whole=True)
    return template.render(page, models=first), whole


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def stored_models(run: Path, metrics: dict) -> dict[str, dict]:
    """What the reader reads with: a run's network and, from its smaller ones, those that fit."""
    found: dict[str, dict] = {}
    paths = {path.stem: path for path in sorted((run / "models").glob("*.tflite"))}
    first = next((name for name in ("float16", "float32") if name in paths), None)
    for name in sorted(paths, key=lambda name: name != first) if first else ():
        try:
            model = stored_network(paths[name])
        except KeyError:
            continue
        if name != first and model["count"] > found.get(first, model)["count"] / 2:
            continue
        calibration = asdict(Calibration.read(calibration_path(paths[name])))
        label = f"{name} · {model['count']:,} weights"
        found[name] = model | {"calibration": calibration, "label": label, "meaning": None}
    for pen in (part.get("pen") or {} for part in metrics.values()):
        if found and "thresholds" in pen:  # measured with float32, the same network
            shares = {k: np.round(pen["thresholds"][k], 4).tolist() for k in ("answered", "right")}
            found[first]["meaning"] = shares | {"n": pen["n"]}
    return found


def stored_network(path: Path) -> dict:
    """A LiteRT file as ``network.js`` takes it: layers, and weights in 16 bits.

    KeyError for what that script cannot compute: weights in 8 bits, other operators.
    """
    content = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    graph, layers, weights = model.subgraphs[0], [], []
    halves: dict[int, int] = {}  # tensors in 32 bits: where they are stored in 16

    def store(index: int) -> int:
        tensor = graph.tensors[halves.get(index, index)]
        data = bytes(model.buffers[tensor.buffer].data)
        values = np.frombuffer(data, {0: "<f4", 1: "<f2"}[tensor.type]).astype("<f2")
        weights.append(values.reshape(tensor.shape[0], -1).T.ravel())  # the filters last
        return values.size

    for step in graph.operators:
        kind = KINDS[names[model.operatorCodes[step.opcodeIndex].builtinCode]]
        if not kind:
            halves[step.outputs[0]] = step.inputs[0]
            continue
        options, layer = step.builtinOptions, dict[str, Any](kind=kind)
        side, result = (graph.tensors[one[0]].shape[1] for one in (step.inputs, step.outputs))
        if kind in ("convolution", "pooling"):
            layer["stride"] = int(options.strideW)
        if kind != "pooling":
            shape = graph.tensors[step.inputs[1]].shape
            layer |= {"filters": int(shape[0]), "size": int(shape[1])}
            layer |= {"kernel": store(step.inputs[1]), "bias": store(step.inputs[2])}
        # Only a convolution has ReLU; it and pooling leave no border out, "depthwise" sees all.
        sides = {"dense": result, "depthwise": int(layer.get("size") == side)}
        fits = result == sides.get(kind, -(-side // layer.get("stride", 1)))
        if not fits or options.fusedActivationFunction != (kind == "convolution"):
            raise KeyError(f"{path.name} has a layer {kind!r} that the page does not know.")
        layers.append(layer)
    # Low bytes first, then the high ones, which are much alike.
    packed = zlib.compress(np.concatenate(weights).view("u1").reshape(-1, 2).T.tobytes(), 9)
    stored = {"layers": layers, "weights": base64.b64encode(packed).decode()}
    return stored | {"count": sum(map(len, weights)), "sha256": hashlib.sha256(content).hexdigest()}


def main(arguments: list[str] | None = None) -> None:
    """Build a finished run's report or its reader anew, or renew the tables of a README.md."""
    parser = argparse.ArgumentParser(prog="python -m digits.report.html", description=main.__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("file", type=Path, help="the report, the draw.html or the README.md")
    options = parser.parse_args(arguments)
    record, metrics = (read_json(options.run / name) for name in ("run.json", "metrics.json"))
    if options.file.suffix == ".md":
        made = renewed(options.file.read_text(encoding="utf-8"), metrics, record)
    elif options.file.name == "draw.html":
        made = readers(options.run, record, metrics)[1]
    else:
        executed = sorted((options.run / "notebooks").glob("[0-9][0-9]_*.ipynb"))
        made = build(executed, record, metrics, readers(options.run, record, metrics)[0])
    write_text(options.file, made)


if __name__ == "__main__":
    main()

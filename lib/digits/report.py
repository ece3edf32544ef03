"""The executed notebooks as one self-contained HTML file that asks nothing of the network."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

import nbformat
from nbconvert import HTMLExporter

from digits import console

TITLE = "Reading handwritten digits"
SUBTITLE = ("From MNIST's pixels to a network that reads what people draw: the data, the training, an honest "
            "examination and what makes it small and fast, computed in one run.")
TEMPLATE = Path(__file__).parent / "report_template"


@dataclass(frozen=True)
class Headline:
    """One number of the first screen. A format's fields are paths into the metrics: ``{03_evaluation.test.n:,}``."""

    label: str
    value: str
    detail: str = ""
    stand_in_label: str = ""  # used instead of ``label`` when the data is not MNIST


HEADLINES = (
    Headline("MNIST test accuracy", "{03_evaluation.test.accuracy:.2%}",
             "{03_evaluation.test.errors:,} errors in {03_evaluation.test.n:,}; 95% interval "
             "{03_evaluation.test.interval.0:.2%} to {03_evaluation.test.interval.1:.2%}",
             "Test accuracy on the stand-in, not MNIST"),
    Headline("Pen digits of unseen writers", "{03_evaluation.pen.accuracy:.1%}",
             "{03_evaluation.pen.errors:,} errors in {03_evaluation.pen.n:,}; none seen in training"),
    Headline("Right, of the pen digits it answers", "{03_evaluation.pen.selective.right.share:.1%}",
             "it answers {03_evaluation.pen.selective.answered.share:.1%} of them and says \"not sure\" to the rest"),
    Headline("Refused, of ink that is no digit", "{03_evaluation.non_digits.refused.share:.1%}",
             "{03_evaluation.non_digits.refused.count:,} of {03_evaluation.non_digits.refused.n:,} drawings, letters and "
             "symbols"),
    Headline("Calibration error on the test set", "{03_evaluation.calibration.ece:.2%}",
             "chance alone explains {03_evaluation.calibration.chance:.2%}"),
    Headline("One image on one thread", "{04_optimization.files.float32.latency_ms_median:.2f} ms",
             "LiteRT float32; {02_training.parameters:,} parameters, {02_training.multiplies:,} multiplies"),
)
_HEADING = re.compile(r'<h([123])(?: id="[^"]*")?>(.*?)(?:<a class="anchor-link".*?</a>)?</h\1>'
                      r'|<section [^>]*id="chapter-(?P<chapter>\d+)"', re.DOTALL)
_LINK = re.compile(r'<a href="(?!https?:|#)(?:(\d\d)_\w+\.ipynb)?[^"]*">(.*?)</a>', re.DOTALL)  # to files


def build(executed: list[Path], record: dict, metrics: dict) -> str:
    """The report of a run.

    executed: the executed notebooks in order, one chapter each; record: the contents of ``run.json``; metrics: those of
    ``metrics.json``.
    """
    exporter = HTMLExporter(template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)],
                            exclude_anchor_links=True)
    resources = {"page": page(record, metrics)}
    html, _ = exporter.from_notebook_node(merge(executed), resources)
    html = link_chapters(wrap_tables(html), {int(path.name[:2]) for path in executed})
    html, contents = number_headings(html)
    return html.replace("<!--CONTENTS-->", contents_list(contents))


def headline_text(metrics: dict) -> str:
    """The headline numbers as lines for the console."""
    return "\n".join(f"  {card['label']}: {card['value']}" + (f" ({card['detail']})" if card["detail"] else "")
                     for card in headlines(metrics))


def headlines(metrics: dict) -> list[dict[str, str]]:
    """Every headline whose numbers are there, as {label, value, detail}."""
    mnist = metrics.get("01_eda", {}).get("dataset", {}).get("name", "mnist") == "mnist"
    cards = [{"label": headline.label if mnist else headline.stand_in_label or headline.label,
              "value": fill(headline.value, metrics), "detail": fill(headline.detail, metrics) or ""}
             for headline in HEADLINES]
    return [card for card in cards if card["value"]]


def fill(template: str, metrics: dict) -> str | None:
    """``template`` with its fields looked up in ``metrics``; None when one of them is missing."""
    text = ""
    for literal, path, form, _ in Formatter().parse(template):
        text += literal
        if path is not None:
            value = look_up(metrics, path)
            if value is None:
                return None
            text += format(value, form)
    return text


def look_up(tree: Any, path: str) -> Any:
    """The value at a dotted path through dicts and lists, or None."""
    for key in path.split("."):
        if isinstance(tree, dict):
            tree = tree.get(key)
        elif isinstance(tree, list) and key.isdigit() and int(key) < len(tree):
            tree = tree[int(key)]
        else:
            return None
    return tree


def merge(executed: list[Path]) -> nbformat.NotebookNode:
    """All notebooks as one, each cell knowing its chapter; an injected cell that only names the run is left out."""
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


def page(record: dict, metrics: dict) -> dict[str, Any]:
    """What the template shows beside the notebooks' own content."""
    models = [{"name": name.removeprefix("models/"), **entry} for stage in record["stages"]
              for name, entry in stage.get("files", {}).items() if name.startswith("models/")]
    return {
        "title": TITLE, "subtitle": SUBTITLE, "notices": notices(record), "headlines": headlines(metrics),
        "provenance": provenance(record), "details": details(record), "command": record["command"],
        "stages": record["stages"], "models": list({model["name"]: model for model in models}.values()),
        "parameters": list(parameter_rows(record)), "packages": sorted(record["packages"].items()),
    }


def notices(record: dict) -> list[str]:
    """What a reader must know before the first number."""
    lines = []
    if record["dataset"].get("name", "mnist") != "mnist":
        lines.append("This run did not use MNIST. scikit-learn's small bundled digits stood in for it: the numbers "
                     "below say nothing about MNIST.")
    if record["profile"] == "quick":
        lines.append("This is a quick run on a small part of the data: it shows that everything works, not how well.")
    return lines


def provenance(record: dict) -> list[tuple[str, str]]:
    """The run in a few lines: what, when, from what, on what."""
    code, versions = record["code"], record["packages"]
    commit = (code["commit"] or "not under version control")[:12] + (" with changes" if code["dirty"] else "")
    hashes = record["dataset"].get("hashes") or {}
    data = record["dataset"].get("source") or record["dataset"].get("requested") or "none"
    short = f", SHA-256 {next(iter(hashes.values()))[:12]}" if hashes else ""
    libraries = ", ".join(f"{name} {versions[key]}" for name, key in
                          (("TensorFlow", "tensorflow"), ("Keras", "keras"), ("NumPy", "numpy")) if key in versions)
    seeds = sorted({str(seed) for seed in record["seeds"].values()})
    date = (record["ended"] or "")[:16].replace("T", " ")
    return [("Run", f"{record['run']}, profile {record['profile']}"), ("Date", f"{date} UTC"),
            ("Commit", commit), ("Data", data + short), ("Computer", computer(record["machine"])),
            ("Software", f"Python {record['python']}, {libraries}"), ("Seed", ", ".join(seeds) or "none"),
            ("Duration", console.clock(record["seconds"]))]


def computer(machine: dict) -> str:
    """Processor, cores and memory in a few words."""
    memory = f", {machine['memory_gib']} GiB" if machine["memory_gib"] else ""
    return f"{machine['processor'] or machine['architecture']}, {machine['cores']} cores{memory}"


def details(record: dict) -> list[tuple[str, str]]:
    """The rest of the provenance, for the appendix."""
    machine, code = record["machine"], record["code"]
    hashes = record["dataset"].get("hashes") or {}
    variables = ", ".join(f"{name}={value}" for name, value in record["environment"].items())
    return [("Commit", code["commit"] or "none"), ("Changes since, SHA-256", code["diff_sha256"] or "none"),
            ("requirements.lock, SHA-256", record["lock_sha256"]),
            *((f"{name}, SHA-256", value) for name, value in hashes.items()),
            ("System", f"{machine['system']} {machine['release']}, {machine['architecture']}"),
            ("Variables set", variables or "none"), ("Started", record["started"]), ("Ended", record["ended"])]


def parameter_rows(record: dict) -> Iterator[tuple[str, str, str, bool]]:
    """(notebook, parameter, value, changed by hand or profile) for each parameter."""
    for notebook, values in record["parameters"].items():
        changed = record.get("changed", {}).get(notebook, ())
        for name, value in values.items():
            yield notebook, name, repr(value), name in changed


def wrap_tables(html: str) -> str:
    """Put each table into a box of its own that scrolls sideways when the screen is narrower than the table."""
    html = re.sub(r"<table\b", '<div class="scroll" role="region" aria-label="Table" tabindex="0"><table', html)
    return html.replace("</table>", "</table></div>")


def link_chapters(html: str, chapters: set[int]) -> str:
    """Let links from notebook to notebook lead to chapters; links to other files become plain text."""
    def replace(match: re.Match) -> str:
        number = int(match[1] or 0)
        return f'<a href="#chapter-{number}">{match[2]}</a>' if number in chapters else match[2]
    return _LINK.sub(replace, html)


def number_headings(html: str) -> tuple[str, list[tuple[int, str, str, str]]]:
    """Number the headings of the main part: "1", "1.1", "1.1.1"; returns the page and (level, number, text, anchor).

    A chapter has its notebook's number, as its figures have.
    """
    counts, contents = [0, 0, 0], []

    def replace(match: re.Match) -> str:
        if match["chapter"]:
            counts[0] = int(match["chapter"]) - 1
            return match[0]
        level, text = int(match[1]), match[2].strip()
        counts[level - 1] += 1
        counts[level:] = [0] * (3 - level)
        number = ".".join(map(str, counts[:level]))
        anchor = "section-" + number.replace(".", "-")
        contents.append((level, number, re.sub(r"<[^>]+>", "", text), anchor))
        shown = f"Chapter {number}" if level == 1 else number
        return f'<h{level} id="{anchor}"><span class="number">{shown}</span>{text}</h{level}>'

    before, main, after = re.split(r'(<main id="content">.*</main>)', html, flags=re.DOTALL)
    return before + _HEADING.sub(replace, main) + after, contents


def contents_list(contents: list[tuple[int, str, str, str]]) -> str:
    """The table of contents: chapters and their sections as nested lists."""
    items: list[str] = []
    for level, number, text, anchor in contents:
        link = f'<a href="#{anchor}"><span class="number">{number}</span><span>{text}</span></a>'
        if level == 1:
            items.append(f"<li>{link}<ol>" if not items else f"</ol></li><li>{link}<ol>")
        elif level == 2 and items:
            items.append(f"<li>{link}</li>")
    if items:
        items.append("</ol></li>")
    appendix = '<li><a href="#how"><span class="number">+</span><span>How this run was made</span></a></li>'
    return f'<ol>{"".join(items)}{appendix}</ol>'

"""The executed notebooks as one self-contained HTML file that asks nothing of the network.

``python -m digits.report.html outputs/NAME FILE.html`` builds a finished run's report anew.
"""

import base64
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import HTMLExporter

from digits import files as paths
from digits.files import read_json
from digits.report import notebook, statements
from digits.run import console

TITLE = "Reading handwritten digits"
SUBTITLE = (
    "From MNIST's pixels to a network that reads what people draw: the data, the training, an honest "
    "examination and what makes it small and fast, computed in one run."
)
TEMPLATE = Path(__file__).parent / "template"
APP_PICTURE = paths.PROJECT / "notebooks" / "images" / "app.png"
APPENDICES = (
    ("limits", "Limits and intended use"),
    ("references", "References"),
    ("how", "How this run was made"),
)
_APPENDIX_ITEM = '<li><a href="#{}"><span class="number">+</span><span>{}</span></a></li>'
_HEADING = re.compile(
    r'<h([123])(?: id="[^"]*")?>(.*?)(?:<a class="anchor-link".*?</a>)?</h\1>'
    r'|<section [^>]*id="chapter-(?P<chapter>\d+)"',
    re.DOTALL,
)
_LINK = re.compile(
    r'<a href="(?!https?:|#)(?:(\d\d)_\w+\.ipynb)?[^"]*">(.*?)</a>', re.DOTALL
)  # to files


def build(executed: list[Path], record: dict, metrics: dict) -> str:
    """The report of a run.

    executed: the executed notebooks in order, one chapter each; record: the contents of ``run.json``; metrics: those of
    ``metrics.json``.
    """
    exporter = HTMLExporter(
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_anchor_links=True,
    )
    resources = {"page": page(record, metrics)}
    html, _ = exporter.from_notebook_node(merge(executed), resources)
    html = link_chapters(wrap_tables(html), {int(path.name[:2]) for path in executed})
    html, contents = number_headings(html)
    appendices = [each for each in APPENDICES if f'id="{each[0]}"' in html]
    return html.replace("<!--CONTENTS-->", contents_list(contents, appendices))


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
    models = [
        {"name": name.removeprefix("models/"), **entry}
        for stage in record["stages"]
        for name, entry in stage.get("files", {}).items()
        if name.startswith("models/")
    ]
    return {
        "title": TITLE,
        "subtitle": SUBTITLE,
        "notices": notices(record),
        "app": embedded(APP_PICTURE),
        **first_page(record, metrics),
        "provenance": provenance(record),
        "details": details(record),
        "command": record["command"],
        "stages": record["stages"],
        "models": list({model["name"]: model for model in models}.values()),
        "parameters": list(parameter_rows(record)),
        "packages": sorted(record["packages"].items()),
    }


def first_page(record: dict, metrics: dict) -> dict[str, Any]:
    """What was found, in sentences and numbers. They are written for MNIST: another data set gets its numbers only."""
    found: dict[str, Any] = {"headlines": notebook.headlines(metrics)}
    if record["dataset"].get("name", "mnist") == "mnist":
        found |= {
            "abstract": statements.abstract(metrics),
            "surprises": statements.surprises(metrics),
            "card": statements.model_card(metrics),
        }
    return found


def embedded(picture: Path) -> str:
    """A PNG as a data address; "" when it is not there: no run of half an hour is to fail for want of a picture."""
    if not picture.is_file():
        return ""
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def notices(record: dict) -> list[str]:
    """What a reader must know before the first number."""
    lines = []
    if record["dataset"].get("name", "mnist") != "mnist":
        lines.append(
            f"This run did not use MNIST but {record['dataset'].get('source') or 'other data'}: the numbers below say "
            "nothing about MNIST."
        )
    if record["profile"] == "quick":
        lines.append(
            "This is a quick run on a small part of the data: it shows that everything works, not how well."
        )
    return lines


def provenance(record: dict) -> list[tuple[str, str]]:
    """The run in a few lines: what, when, from what, on what."""
    code, versions = record["code"], record["packages"]
    commit = (code["commit"] or "not under version control")[:12] + (
        " with changes" if code["dirty"] else ""
    )
    hashes = record["dataset"].get("hashes") or {}
    data = record["dataset"].get("source") or record["dataset"].get("requested") or "none"
    short = f", SHA-256 {next(iter(hashes.values()))[:12]}" if hashes else ""
    libraries = ", ".join(
        f"{name} {versions[key]}"
        for name, key in (("TensorFlow", "tensorflow"), ("Keras", "keras"), ("NumPy", "numpy"))
        if key in versions
    )
    seeds = sorted({str(seed) for seed in record["seeds"].values()})
    date = (record["ended"] or "")[:16].replace("T", " ")
    return [
        ("Run", f"{record['run']}, profile {record['profile']}"),
        ("Date", f"{date} UTC"),
        ("Commit", commit),
        ("Data", data + short),
        ("Computer", computer(record["machine"])),
        ("Software", f"Python {record['python']}, {libraries}"),
        ("Seed", ", ".join(seeds) or "none"),
        ("Duration", console.clock(record["seconds"])),
    ]


def computer(machine: dict) -> str:
    """Processor, cores and memory in a few words."""
    memory = f", {machine['memory_gib']} GiB" if machine["memory_gib"] else ""
    return f"{machine['processor'] or machine['architecture']}, {machine['cores']} cores{memory}"


def details(record: dict) -> list[tuple[str, str]]:
    """The rest of the provenance, for the appendix."""
    machine, code = record["machine"], record["code"]
    hashes = record["dataset"].get("hashes") or {}
    variables = ", ".join(f"{name}={value}" for name, value in record["environment"].items())
    return [
        ("Commit", code["commit"] or "none"),
        ("Changes since, SHA-256", code["diff_sha256"] or "none"),
        ("requirements.lock, SHA-256", record["lock_sha256"]),
        *((f"{name}, SHA-256", value) for name, value in hashes.items()),
        ("System", f"{machine['system']} {machine['release']}, {machine['architecture']}"),
        ("Variables set", variables or "none"),
        ("Started", record["started"]),
        ("Ended", record["ended"]),
    ]


def parameter_rows(record: dict) -> Iterator[tuple[str, str, str, bool]]:
    """(notebook, parameter, value, changed by hand or profile) for each parameter."""
    for chapter, values in record["parameters"].items():
        changed = record.get("changed", {}).get(chapter, ())
        for name, value in values.items():
            yield chapter, name, repr(value), name in changed


def wrap_tables(html: str) -> str:
    """Put each table into a box of its own that scrolls sideways when the screen is narrower than the table."""
    html = re.sub(
        r"<table\b",
        '<div class="scroll" role="region" aria-label="Table" tabindex="0"><table',
        html,
    )
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


def contents_list(
    contents: list[tuple[int, str, str, str]], appendices: list[tuple[str, str]]
) -> str:
    """The table of contents: chapters and their sections as nested lists, then (anchor, title) of what is not numbered."""
    items: list[str] = []
    for level, number, text, anchor in contents:
        link = f'<a href="#{anchor}"><span class="number">{number}</span><span>{text}</span></a>'
        if level == 1:
            items.append(f"<li>{link}<ol>" if not items else f"</ol></li><li>{link}<ol>")
        elif level == 2 and items:
            items.append(f"<li>{link}</li>")
    if items:
        items.append("</ol></li>")
    return (
        f"<ol>{''.join(items)}{''.join(_APPENDIX_ITEM.format(*each) for each in appendices)}</ol>"
    )


def main(arguments: list[str]) -> int:
    """Build the report of the finished run in a folder into a file; 2 when that is not what was asked."""
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder, target = map(Path, arguments)
    executed = sorted((folder / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    target.write_text(
        build(executed, read_json(folder / "run.json"), read_json(folder / "metrics.json")),
        encoding="utf-8",
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""The executed notebooks as one self-contained HTML file, and the READMEs' tables of numbers.

``python -m digits.report.html RUN FILE`` builds the report of the finished run in a folder anew;
when the file is a README.md, its tables are renewed from that run's numbers instead.
"""

import argparse
import base64
import re
from datetime import timedelta
from html import escape
from pathlib import Path

import nbformat
from bs4 import BeautifulSoup, Tag
from jinja2 import Environment, FileSystemLoader, StrictUndefined, UndefinedError
from nbconvert import HTMLExporter

from digits.files import NOTEBOOKS, read_json, write_text
from digits.report.notebook import aims, headlines

TEMPLATE = Path(__file__).parent / "template"
FRONT = NOTEBOOKS / "front.md.j2"
APP_PICTURE = NOTEBOOKS / "images" / "app.png"
_BLOCK = re.compile(r"(<!-- (results|aims):.*?-->\n).*?(<!-- /\2 -->)", re.DOTALL)


def build(executed: list[Path], record: dict, metrics: dict) -> str:
    """The report of a run.

    Parameters
    ----------
    executed : the executed notebooks in order, one chapter each
    record : the contents of ``run.json``
    metrics : the contents of ``metrics.json``
    """
    mnist = record["dataset"].get("name", "mnist") == "mnist"
    models = {
        name.removeprefix("models/"): entry
        for stage in record["stages"]
        for name, entry in stage.get("files", {}).items()
        if name.startswith("models/")
    }
    page = {
        "record": record,
        "mnist": mnist,
        "duration": str(timedelta(seconds=round(record["seconds"]))),
        "models": models,
        "headlines": headlines(metrics),
        "aims": aims(metrics),
        "front": front(FRONT, metrics) if mnist else {},  # its sentences are about MNIST
        "app": base64.b64encode(APP_PICTURE.read_bytes()).decode(),
    }
    exporter = HTMLExporter(
        template_name=TEMPLATE.name,
        extra_template_basedirs=[str(TEMPLATE.parent)],
        exclude_anchor_links=True,
    )
    html, _ = exporter.from_notebook_node(merge(executed), {"page": page})
    soup = BeautifulSoup(html, "html.parser")
    scroll_tables(soup)
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


def scroll_tables(soup: BeautifulSoup) -> None:
    """Put each table into a box that scrolls sideways where the screen is narrower."""
    box = {"class": "scroll", "role": "region", "aria-label": "Table", "tabindex": "0"}
    for table in soup.find_all("table"):
        table.wrap(soup.new_tag("div", attrs=box))


def link_chapters(soup: BeautifulSoup) -> None:
    """Let links between notebooks lead to chapters; links to other files become plain text."""
    for link in soup.find_all("a", href=re.compile(r"^(?!https?:|#)")):
        number = re.match(r"(\d\d)_\w+\.ipynb", str(link["href"]))
        if number and soup.find(id=f"chapter-{int(number[1])}"):
            link["href"] = f"#chapter-{int(number[1])}"
        else:
            link.unwrap()


def number_headings(soup: BeautifulSoup) -> None:
    """Number the chapters' headings ("1", "1.1"); list them, and the appendices', as contents.

    A chapter has its notebook's number, as its figures have.
    """
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
    numbers = {"headlines": headlines(metrics), "aims": aims(metrics), "record": record}

    def table(block: re.Match) -> str:
        made = environment.get_template(f"{block[2]}.md.j2").render(numbers)
        return f"{block[1]}{made.strip()}\n{block[3]}"

    return _BLOCK.sub(table, text)


def main(arguments: list[str] | None = None) -> None:
    """Build a finished run's report anew, or renew the tables of a README.md."""
    parser = argparse.ArgumentParser(prog="python -m digits.report.html", description=main.__doc__)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("file", type=Path, help="the report to write, or the README.md to renew")
    options = parser.parse_args(arguments)
    record, metrics = (read_json(options.run / name) for name in ("run.json", "metrics.json"))
    if options.file.suffix == ".md":
        made = renewed(options.file.read_text(encoding="utf-8"), metrics, record)
    else:
        executed = sorted((options.run / "notebooks").glob("[0-9][0-9]_*.ipynb"))
        made = build(executed, record, metrics)
    write_text(options.file, made)


if __name__ == "__main__":
    main()

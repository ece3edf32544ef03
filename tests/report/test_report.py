"""The report: one file that loads nothing, numbered, folded, honest about its data."""

import copy
import functools
import json
import re
from html import escape

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from playwright.sync_api import sync_playwright

from browser import launch
from digits import evaluation
from digits import files as paths
from digits.report import html as report
from digits.report import plots
from digits.report.notebook import figure_html
from pages import Page

FIGURE = '<figure><img alt="a curve" src="data:image/png;base64,AAAA"/><figcaption>x</figcaption></figure>'


def shown(**data) -> nbformat.NotebookNode:
    """A cell's display output; ``html``, ``markdown`` or ``plain``."""
    return new_output("display_data", data={f"text/{name}": value for name, value in data.items()})


@pytest.fixture
def record() -> dict:
    """A finished run's record, as small as the report takes it."""
    return {
        "run": "latest",
        "profile": "standard",
        "command": "./run_all.sh --set a=<b>",
        "started": "2026-01-02T03:00:00+00:00",
        "ended": "2026-01-02T03:04:05+00:00",
        "seconds": 61.0,
        "seeds": {"01_eda": 1, "02_training": 1},
        "dataset": {
            "requested": "auto",
            "name": "mnist",
            "source": "MNIST",
            "hashes": {"x_train": "ab" * 32},
        },
        "code": {"commit": "c" * 40, "dirty": False, "diff_sha256": None},
        "lock_sha256": "d" * 64,
        "python": "3.11.7",
        "packages": {"tensorflow": "2.21.0", "numpy": "2.4.6"},
        "environment": {"PYTHONHASHSEED": "0"},
        "machine": {
            "system": "Linux",
            "release": "6",
            "architecture": "x86_64",
            "processor": "A CPU",
            "cores": 2,
            "memory_gib": 8.0,
        },
        "parameters": {"01_eda": {"run_name": "latest", "n": 3}},
        "changed": {"01_eda": ["n"]},
        "stages": [
            {
                "notebook": "01_eda",
                "seconds": 60.0,
                "files": {"models/m.tflite": {"bytes": 2000, "sha256": "e" * 64}},
            }
        ],
    }


@pytest.fixture
def metrics() -> dict:
    """Metrics with the first headline's numbers only."""
    return {
        "01_eda": {"dataset": {"name": "mnist"}},
        "03_evaluation": {
            "headlines": [
                {
                    "label": "MNIST test accuracy",
                    "text": "99.51%",
                    "detail": "49 errors in 10,000; 95% interval 99.35% to 99.63%",
                }
            ],
            "pen": None,
        },
    }


@pytest.fixture
def executed(tmp_path) -> list:
    """Two executed notebooks with everything that the template treats in its own way."""
    first = [
        new_markdown_cell(
            "# Looking\n\nSee [training](02_training.ipynb), [app](05_draw.ipynb), "
            "[readme](../README.md), [paper](https://example.org/a)."
        ),
        new_code_cell("run_name = 'x'", metadata={"tags": ["parameters"]}),
        new_code_cell(
            '# Parameters\nrun_name = "latest"\n', metadata={"tags": ["injected-parameters"]}
        ),
        new_markdown_cell("## A section\n\n### Deeper\n\n```\n# no heading\n```"),
        new_code_cell("plot()", outputs=[shown(html=FIGURE, plain="Figure 1.1")]),
        new_code_cell("table()", outputs=[shown(html="<table><tr><td>1</td></tr></table>")]),
        new_code_cell(
            "say()",
            outputs=[
                shown(markdown="**1,234** images"),
                new_output("stream", name="stderr", text="NOISE"),
                new_output("stream", name="stdout", text="printed <b>"),
            ],
        ),
        new_markdown_cell("## A section"),
        new_code_cell(
            "assert secret", metadata={"tags": ["hide"]}, outputs=[shown(plain="HIDDEN")]
        ),
    ]
    second = [
        new_markdown_cell("# Training"),
        new_code_cell(
            '# Parameters\nrun_name = "latest"\nn = 3', metadata={"tags": ["injected-parameters"]}
        ),
    ]
    paths = []
    for name, cells in (("01_eda", first), ("02_training", second)):
        paths.append(tmp_path / f"{name}.ipynb")
        nbformat.write(nbformat.v4.new_notebook(cells=cells), paths[-1])
    return paths


@pytest.fixture
def html(executed, record, metrics) -> str:
    """The report of all that."""
    return report.build(executed, record, metrics)


def test_nothing_is_loaded_from_anywhere(html):
    assert Page(html).loads == []
    assert "default-src 'none'" in html and "img-src data:" in html


def test_links_lead_to_chapters_or_out_into_the_world_never_to_files(html):
    page = Page(html)
    outside = [link for link in page.links if not link.startswith("#")]
    assert outside == ["https://example.org/a"]
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_sections_are_numbered_and_listed(html):
    contents = html.split("<nav ")[1].split("</nav>")[0]
    assert re.findall(r'<span class="number">([^<]+)</span><span>([^<]+)', contents) == [
        ("1", "Looking"),
        ("1.1", "A section"),
        ("1.2", "A section"),
        ("2", "Training"),
        ("+", "Limits and intended use"),
        ("+", "References"),
        ("+", "How this run was made"),
    ]
    assert (
        '<h3 id="section-1-1-1"><span class="number">1.1.1</span>Deeper</h3>' in html
        and "Chapter 2" in html
    )
    assert html.count("<h1") == 6  # the title, two chapters, and three that are not numbered


def test_a_chapter_has_the_number_of_its_notebook(executed, record, metrics):
    sixth = executed[1].with_name("06_more.ipynb")
    html = report.build([executed[0], executed[1].rename(sixth)], record, metrics)
    assert (
        '<span class="number">6</span><span>Training</span>' in html
        and "Chapter 6" in html
        and "Chapter 2" not in html
    )


def test_code_is_folded_noise_is_dropped_results_are_shown(html):
    chapter = html.split('id="chapter-1"')[1].split("</section>")[0]
    open_text = re.sub(r"<details.*?</details>", "", chapter, flags=re.DOTALL)
    assert "plot" not in open_text and "secret" not in open_text and "secret" in chapter
    assert "NOISE" not in html and "HIDDEN" not in html
    assert (
        "<strong>1,234</strong> images" in open_text
        and "printed &lt;b&gt;" in open_text
        and FIGURE in chapter
    )
    assert re.search(r'<div[^>]*class="scroll"[^>]*>\s*<table', chapter)
    assert "Parameters set for this run" not in chapter  # it only names the run
    assert "Parameters set for this run" in html.split('id="chapter-2"')[1]


def test_every_image_is_described(html):
    assert all(image.get("alt") for image in Page(html).images)


def test_the_first_screen_has_the_numbers_that_there_are(html):
    cover = html.split("<header")[1].split("</header>")[0]
    assert "99.51%" in cover and "49 errors in 10,000; 95% interval 99.35% to 99.63%" in cover
    assert "Pen digits" not in cover and "Parameters" not in cover
    for text in (
        "c" * 12,
        "A CPU, 2 cores",
        "Python 3.11.7, TensorFlow 2.21.0",
        "2026-01-02 03:04 UTC",
        "1:01",
        "abababababab",
    ):
        assert text in cover
    assert "--set a=&lt;b&gt;" in html


def test_a_stand_in_is_never_taken_for_mnist(executed, record, metrics):
    record["dataset"]["name"] = metrics["01_eda"]["dataset"]["name"] = "digits"
    html = report.build(executed, record, metrics)
    assert "did not use MNIST" in html.split("<header")[0]
    assert "Abstract" not in html and "Limits" not in html  # their sentences are about MNIST


def test_an_mnist_run_carries_no_notice_and_a_quick_one_says_so(html, executed, record, metrics):
    assert 'class="notices"' not in html
    assert (
        "quick run"
        in report.build(executed, record | {"profile": "quick"}, metrics).split("<header")[0]
    )


# The first page and the model card


PUBLISHED = json.loads((paths.REFERENCE / "metrics.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("line", "sentences"),
    [
        ("{{ test.b | form('.1%') }} of {{ test.n | form(',') }}", ["50.0% of 1,000"]),
        ("{{ test.c[1] }}", ["2"]),
        ("no number", ["no number"]),
        ("{{ test.c[2] }}", []),
        ("{{ test.x | form(',') }}", []),
        ("{{ other.x }}", []),
        ("{{ test.none | form(',') }}", []),
        ("{{ test.none.x }}", []),
        ("{% if test.none > 0 %}never{% endif %}", []),
        ("{% if test.b > 0.6 %}not so{% endif %}", []),
    ],
)
def test_a_line_is_filled_from_the_metrics_or_left_out(tmp_path, line, sentences):
    template = tmp_path / "front.md.j2"
    template.write_text(f"{{# why #}}\n## First\n\n## Second\n### Part\n{line}\n### Empty\n")
    metrics = {"01_test": {"b": 0.5, "c": [1, 2], "n": 1000, "none": None}}
    found = report.front(template, metrics)
    assert found == ({"Second": {"Part": sentences}} if sentences else {})


def said(metrics: dict) -> list[str]:
    """Every sentence of the first page and the model card."""
    return [
        sentence
        for section in report.front(report.FRONT, metrics).values()
        for part in section.values()
        for sentence in part
    ]


def test_the_published_run_has_every_number_that_is_spoken_of():
    text = report.FRONT.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith(("#", "{#"))]
    assert len(said(PUBLISHED)) == len(lines) > 20
    assert len(said({})) == 8  # what needs no number


@pytest.mark.parametrize(
    "path",
    [
        "03_evaluation.test.errors",
        "03_evaluation.pen.n",
        "02_training.parameters",
        "03_evaluation.non_digits.refused.share",
        "04_optimization.files.dynamic_int8.bytes",
        "03_evaluation.pen.two_writers_share",
        "03_evaluation.pen.hardest.1.errors",
        "03_evaluation.seeds.MNIST test accuracy.std",
    ],
)
def test_a_number_changed_in_the_metrics_changes_what_is_said(path):
    changed = copy.deepcopy(PUBLISHED)
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    place = functools.reduce(lambda tree, key: tree[key], way, changed)
    place[last] = place[last] * 2 + 123
    assert set(said(PUBLISHED)) != set(said(changed))


def test_the_report_says_what_the_front_page_says(executed, record):
    html = report.build(executed, record, PUBLISHED)
    assert not [
        sentence for sentence in said(PUBLISHED) if escape(sentence, quote=False) not in html
    ]
    assert "Pen digits of unseen writers, at least 98.7%: 97.6% ± 0.1%, missed." in html


def test_every_work_that_the_notebooks_cite_is_among_the_references():
    listed = (report.TEMPLATE / "references.html").read_text(encoding="utf-8")
    works = [
        re.sub(r"<[^>]+>", "", line) for line in listed.splitlines() if line.startswith("<li>")
    ]
    cited = set()
    for path in (paths.PROJECT / "notebooks").glob("*.ipynb"):
        prose = "".join(line for cell in nbformat.read(path, 4).cells for line in cell.source)
        cited |= set(
            re.findall(
                r"([A-Z][a-zé]+)(?: et al\.| and [A-Z][a-zé]+),? \(?((?:19|20)\d\d)\b", prose
            )
        )
    assert len(cited) > 10
    assert not [
        (name, year)
        for name, year in cited
        if not any(name in work and f"({year})" in work for work in works)
    ]


# Exhibits


@pytest.fixture
def mistakes() -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
    """Confusion counts, images and errors: two 4s read as 9, one 7 read as 1; everything else right."""
    labels = np.array([4, 4, 7, *range(10)])
    probabilities = np.eye(10)[[9, 9, 1, *range(10)]] * 0.8 + 0.02
    images = np.random.default_rng(1).random((len(labels), 28, 28))
    return (
        evaluation.confusion(labels, probabilities.argmax(1)),
        images,
        evaluation.error_table(labels, probabilities, known=[2]),
    )


@pytest.fixture(scope="module")
def chromium():
    """A headless Chromium for this module."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium):
    """An empty page."""
    page = chromium.new_page()
    yield page
    page.close()


@pytest.fixture
def exhibition(mistakes, executed, record, metrics, tmp_path) -> str:
    """A report's address with both exhibits in it."""
    counts, images, errors = mistakes
    figures = [
        figure_html(b"PNG", "Figure 3.1", "x", "a figure", live=live)
        for live in (
            plots.live_confusion(counts, images, errors, "pairs"),
            plots.live_gallery(images, errors, "errors"),
        )
    ]
    notebook = nbformat.read(executed[1], 4)
    notebook.cells += [new_code_cell("show", outputs=[shown(html=figure)]) for figure in figures]
    nbformat.write(notebook, executed[1])
    html = report.build(executed, record, metrics)
    parsed = Page(html)
    assert (
        parsed.loads == []
        and len(parsed.ids) == len(set(parsed.ids))
        and all(image.get("alt") for image in parsed.images)
    )
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    return (tmp_path / "report.html").as_uri()


@pytest.mark.browser
def test_a_cell_of_the_confusion_matrix_shows_its_images(exhibition, page):
    """Pointed at, tapped and by keyboard; the commonest confusion is open from the start."""
    page.goto(exhibition)
    behind = page.locator(".digits-behind:visible")
    assert (
        behind.count() == 1
        and "4 read as 9: 2" in behind.inner_text()
        and behind.locator("img").count() == 2
    )
    page.locator("label[for=pairs-71]").hover()
    assert behind.count() == 1 and "7 read as 1: 1" in behind.inner_text()
    page.mouse.move(1, 1)
    assert "4 read as 9" in behind.inner_text()
    page.locator("#pairs-49").focus()
    page.keyboard.press("ArrowDown")
    assert behind.count() == 1 and "7 read as 1: 1" in behind.inner_text()
    page.locator("label[for=pairs-49]").click()
    assert "4 read as 9" in behind.inner_text()


@pytest.mark.browser
def test_the_gallery_is_filtered_by_digit(exhibition, page):
    page.goto(exhibition)
    tiles = page.locator(".digits-gallery .digits-tile:visible")
    assert tiles.count() == 3
    page.locator("label[for=errors-7]").click()
    assert tiles.count() == 1 and "7→" in tiles.inner_text() and "†" in tiles.inner_text()
    assert page.locator("#errors-0").is_disabled()
    page.locator("#errors-7").focus()
    page.keyboard.press("ArrowRight")  # round to the first one that can be chosen: all
    assert tiles.count() == 3


@pytest.mark.browser
def test_paper_gets_the_pictures_instead_of_the_exhibits(exhibition, page):
    page.goto(exhibition)
    still = page.locator("figure.digits-live > img")
    assert not still.first.is_visible() and page.locator(".digits-exhibit").first.is_visible()
    page.emulate_media(media="print")
    assert still.first.is_visible() and page.locator(".digits-exhibit:visible").count() == 0


@pytest.mark.browser
def test_the_first_picture_becomes_a_pad_that_reads(executed, record, metrics, page, tmp_path):
    reader, _ = report.readers(paths.REFERENCE, record, metrics)
    html = report.build(executed, record, metrics, reader)
    assert Page(html).loads == []
    (tmp_path / "report.html").write_text(html, encoding="utf-8")
    page.context.set_offline(True)
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("iframe").count() == 0 and page.locator("figure.app img").is_visible()
    page.get_by_role("button", name="Draw here").click()
    frame = page.frame_locator("figure.app iframe")
    frame.locator(".digits-app[data-ready=true]").wait_for()
    pad = frame.locator(".digits-pad").bounding_box()
    page.mouse.move(pad["x"] + 100, pad["y"] + 40)
    page.mouse.down()
    page.mouse.move(pad["x"] + 100, pad["y"] + 160, steps=5)
    page.mouse.up()
    frame.locator(".digits-answer[data-text='1'][data-accepted=true]").wait_for(state="attached")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.emulate_media(media="print")
    assert page.locator("figure.app img").is_visible()
    assert not page.locator("iframe").is_visible()

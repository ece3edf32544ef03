"""The reader in the browser: its twins answer as Python does, and its page needs nothing but itself."""

import os
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import browser
import pages
import twins
from digits import data, files
from digits.files import read_json
from digits.recognizer import Recognizer, ink, occlusion
from digits.report.html import readers, stored_network

pytestmark = pytest.mark.browser
ALL = bool(os.environ.get("DIGITS_TWINS"))  # set: everything, which takes half an hour
DRAWN = {one.name: [stroke.tolist() for stroke in one.strokes] for one in ink.examples()}
FOUR_OR_SEVEN = [[(100, 60), (100, 150), (180, 150)], [(150, 50), (190, 54), (180, 240)]]
EDGES = [
    [[[140.0, 140.0]]],
    [[[140.0, 140.0]] * 3],
    [[[1e300, -1e300], [5, 5]]],
    [[[0, 0], [280, 280]], [[280, 0], [0, 280]]],
    [[[20, 140], [260, 140]]],
    [[[140, 20], [140, 260]]],
    [[[100.0005, 100.0005], [100.0015, 100.0015]]],
]


@pytest.fixture(scope="module")
def recognizer():
    return Recognizer.load("reference", "float16")


@pytest.fixture(scope="module")
def scripts(chromium, recognizer):
    page = chromium.new_page()
    twins.load(page, recognizer)
    return page


@pytest.fixture(scope="module")
def pen():
    """Pen digits of the training writers, spread over the file."""
    if not os.environ.get("DIGITS_DATA"):
        pytest.skip("DIGITS_DATA names no folder with the pen digits")
    digits = data.load_pen_digits("tra")
    digits = digits + data.load_pen_digits("tes") if ALL else digits[:: len(digits) // 300]
    return [twins.drawn(digit) for digit in digits]


@pytest.fixture(scope="module")
def generated():
    rng = np.random.default_rng(0)
    return EDGES + [twins.random_strokes(rng) for _ in range(10_000 if ALL else 300)]


def check_images(scripts, drawings):
    ours = np.stack([ink.strokes_to_image([np.array(s) for s in one]) for one in drawings])
    same = (twins.images(scripts, drawings) == ours).all((1, 2))
    assert same.all(), f"{(~same).sum()} of {len(same)}, the first {drawings[int(same.argmin())]}"


def test_ink_is_equal_to_the_bit_on_pen_digits(scripts, pen):
    check_images(scripts, pen)


def test_ink_is_equal_to_the_bit_on_strokes_of_every_kind(scripts, generated):
    check_images(scripts, generated)


def test_logits_are_litert_s(scripts, recognizer, generated):
    images = [ink.strokes_to_image([np.array(s) for s in one]) for one in generated[:100]]
    images += list(data.load("mnist", download=False).x_test[..., 0]) if ALL else []
    theirs, ours = twins.logits(scripts, images), recognizer.model.logits(np.stack(images))
    assert np.abs(theirs - ours).max() < 1e-4
    assert (theirs.argmax(1) == ours.argmax(1)).all()


@pytest.mark.parametrize("name", ["compact_small", "micro"])
def test_smaller_networks_keep_their_digits_in_16_bits(chromium, name):
    page, recognizer = chromium.new_page(), Recognizer.load("reference", name)
    twins.load(page, recognizer)
    images = np.stack([ink.strokes_to_image(strokes) for strokes in DRAWN.values()])
    theirs, ours = twins.logits(page, images), recognizer.model.logits(images)
    assert np.abs(theirs - ours).max() < 0.05 and (theirs.argmax(1) == ours.argmax(1)).all()
    page.close()


@pytest.mark.parametrize("name", ["int8", "dynamic_int8"])
def test_files_in_8_bits_are_not_for_the_page(name):
    with pytest.raises(KeyError):
        stored_network(files.REFERENCE / "models" / f"{name}.tflite")


def check_answers(scripts, recognizer, drawings):
    theirs, ours = twins.answers(scripts, drawings), twins.expected(recognizer, drawings)
    wrong = [k for k in range(len(ours)) if theirs[k] != ours[k]]
    assert not wrong, f"{len(wrong)} of {len(ours)}: {theirs[wrong[0]]} for {ours[wrong[0]]}"


def test_examples_and_what_is_no_digit_get_the_same_answers(scripts, recognizer, generated):
    check_answers(scripts, recognizer, list(DRAWN.values()) + generated[: 10_000 if ALL else 100])


def test_pen_digits_and_rows_get_the_same_answers(scripts, recognizer, pen):
    rows = [
        twins.row(pen[k : k + 2 + k % 3], gap=(5, 0, -4)[k % 3]) for k in range(0, len(pen) - 4, 4)
    ]
    check_answers(
        scripts, recognizer, pen[: len(pen) if ALL else 100] + rows[: len(rows) if ALL else 40]
    )


def test_lines_signs_and_letters_get_the_same_answers(scripts, recognizer, pen):
    rng, small, drawings = np.random.default_rng(3), np.array([(0, 0), (20, -3)]), []
    for k in range(0, 160 if ALL else 32, 4):
        upper, lower, (a, b) = (
            twins.row(pen[k : k + 2]),
            twins.row(pen[k + 2 : k + 4]),
            pen[k : k + 2],
        )
        drawings.append([(np.array(s) * 0.5 - (0, 45)).tolist() for s in upper])
        drawings[-1] += [(np.array(s) * 0.5 + (0, rng.uniform(15, 70))).tolist() for s in lower]
        half = [(np.array(s) * 0.5 + (40, 20)).tolist() for s in twins.row([a, b])]
        for x, y, scale in ((12, 100, 1), (107, 125, (0.2, -3)), (98, 130, (1.5, 28))):
            drawings.append([*half, (small * scale + (x, y)).tolist()])
        tiny = [(np.array(s) * 0.15 + (220, rng.uniform(40, 200))).tolist() for s in b]
        drawings.append([*[(np.array(s) * 0.7).tolist() for s in a], *tiny])
    touching = [rng.uniform(60, 200, (rng.integers(2, 4), 2)).tolist() for _ in range(90)]
    drawings += [touching[k : k + 3] for k in range(0, 90, 3)]
    ring = np.array([(30 * np.cos(t), 50 * np.sin(t)) for t in np.linspace(0, 6.2, 20)]) + 140
    across = [
        [(140 + x, 140 + y), (140 + x + lean, 140 - y)]
        for x, y, lean in rng.uniform((-20, 30, 0), (20, 80, 30), (20, 3))
    ]
    drawings += [[ring.tolist(), slash] for slash in across]
    read = [recognizer.read_strokes([np.array(s) for s in one]) for one in drawings]
    parts = [part for answer in read for part in answer.parts]
    assert {"-", ","} <= {part.mark for part in parts} and {0, 1} <= {part.line for part in parts}
    assert len({part.doubt for part in parts}) >= 4
    check_answers(scripts, recognizer, drawings)


@pytest.mark.parametrize("name", ["7-crossed", "4"])
def test_the_map_of_reasons_is_the_same(scripts, recognizer, name):
    found = recognizer.predict_strokes(DRAWN[name])
    ours = occlusion.occlusion_map(recognizer.model, found.image, found.digit)
    effect, regions = scripts.evaluate(
        """async ([strokes, digit]) => {
        const image = ink.strokesToImage(strokes), effect = await occlusion.effects(model, image, digit, async () => true);
        return [Array.from(effect), [1, -1].map(sign => occlusion.region(image, effect, sign))];
    }""",
        [DRAWN[name], found.digit],
    )
    assert np.abs(np.reshape(effect, (28, 28)) - ours.effect).max() < 1e-4
    assert regions == [ours.region(1), ours.region(-1)]


# --- The page ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """The page of the published run, as a file."""
    record, metrics = (read_json(files.REFERENCE / f"{name}.json") for name in ("run", "metrics"))
    path = tmp_path_factory.mktemp("page") / "draw.html"
    alone, every = readers(files.REFERENCE, record, metrics)
    path.write_text(every, encoding="utf-8")
    assert len(alone.encode()) <= 600_000
    return path.as_uri()


@contextmanager
def opened(chromium, address, **settings):
    """The page in a window without a network, and what its console says."""
    context = chromium.new_context(**{"offline": True} | settings)
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: request.url in address or said.append(request.url))
    page.goto(address)
    page.wait_for_selector(browser.READY)
    yield page
    assert said == []
    context.close()


@pytest.fixture
def page(chromium, address):
    with opened(chromium, address) as page:
        yield page


def points(*names):
    return sum(len(stroke) for name in names for stroke in DRAWN[name])


def test_a_digit_is_read_while_it_is_drawn_and_everything_can_be_taken_back(page):
    browser.draw_at_once(page, DRAWN["7-crossed"])
    found = browser.settled(page, points("7-crossed"))
    assert (found["text"], found["accepted"], found["reason"]) == ("7", "true", "")
    last = len(DRAWN["7-crossed"][-1])
    page.keyboard.press("z")
    browser.settled(page, points("7-crossed") - last)
    page.keyboard.press("y")
    browser.settled(page, points("7-crossed"))
    page.click(".digits-eraser")
    browser.draw_at_once(page, [[(0, 140), (280, 140)]])
    browser.wait(
        page, f"document.querySelector('.digits-answer').dataset.points != {points('7-crossed')}"
    )
    browser.clear(page)
    assert browser.answer(page)["reason"] == "blank"
    assert page.locator(".digits-lost").count() == 0


def test_a_number_gets_boxes_and_each_digit_can_be_looked_at(page):
    browser.draw_at_once(page, DRAWN["2026"])
    assert browser.settled(page, points("2026"))["text"] == "2026"
    assert page.locator(".digits-box").count() == 4
    maps = "it => it.getContext('2d').getImageData(0, 0, 299, 29).data.some((value, k) => k % 4 < 3 && value > 200)"
    browser.until(lambda: page.locator(".digits-inside canvas").first.evaluate(maps), 10, "maps")
    page.click(".digits-part >> nth=1")
    page.wait_for_selector(".digits-part:nth-child(2)[aria-pressed=true]")
    assert browser.answer(page)["digit"] == "0"


def test_lines_stand_one_below_the_other_and_a_minus_is_named(page):
    two = [
        [(np.array(s) * 0.5 + (70, y)).tolist() for s in DRAWN[name]]
        for name, y in (("7", 0), ("3", 135))
    ]
    browser.draw_at_once(page, two[0] + two[1])
    found = browser.settled(page, points("7", "3"))
    assert (found["text"], found["say"][:14]) == ("7\n3", "7, below it 3,")
    tops = [box.bounding_box()["y"] for box in page.locator(".digits-part").all()]
    assert tops[1] > tops[0] + 30
    browser.clear(page)
    browser.draw_at_once(page, [[(30, 140), (60, 140)], *DRAWN["2"]])
    found = browser.settled(page, 2 + points("2"))
    assert (found["text"], found["reason"]) == ("-2", "not a digit")
    assert "a minus" in page.locator(".digits-verdict").inner_text()


def test_examples_are_drawn_and_doubt_is_said(page):
    page.click(".digits-more")
    page.click("[aria-label^='Example'][data-do*='scribble']")
    found = browser.settled(page, points("scribble"))
    assert (found["accepted"], found["reason"]) == ("false", "not a digit")
    page.click(".digits-undo")
    assert browser.settled(page, 0)["reason"] == "blank"
    browser.draw_at_once(page, FOUR_OR_SEVEN)
    assert browser.settled(page, 6)["reason"] == "unsure"
    assert page.locator(".digits-verdict").inner_text().startswith("Not sure\n4 or 7, best guess 4")
    page.locator(".digits-threshold").fill("0.6")
    browser.until_state(page, "threshold", 0.6)
    assert (
        browser.answer(page)["reason"] == "" and "%" in page.locator(".digits-meaning").inner_text()
    )


def test_other_networks_and_the_map_of_reasons(page):
    browser.draw_at_once(page, DRAWN["3"])
    browser.settled(page, points("3"))
    page.select_option(".digits-model", "micro")
    browser.until_state(page, "model", "micro")
    assert browser.answer(page)["digit"] == "3"
    page.keyboard.press("w")
    page.wait_for_selector(".digits-map svg", timeout=60_000)
    assert "speaks for 3" in page.locator(".digits-map").inner_text()


def test_a_full_pad_says_so(page):
    browser.draw_at_once(page, [[(k % 280, k // 280) for k in range(0, 5001)]])
    page.wait_for_selector(".digits-error")
    assert "full" in page.locator(".digits-error").inner_text()


@pytest.mark.slow
def test_pen_digits_and_rows_drawn_with_a_pointer_get_python_s_answers(page, recognizer, pen):
    """The page's own rounding of coordinates is what Python gets, too."""
    rows = [twins.row(pen[k : k + 3]) for k in range(0, 120, 3)]
    for strokes in (pen if ALL else pen[:60])[:200] + (rows if ALL else rows[:12]):
        browser.draw_at_once(page, strokes)
        found = browser.settled(page, sum(map(len, strokes)))
        drawn = page.evaluate("document.querySelector('.digits-app').reader.strokes")
        read = recognizer.read_strokes([np.array(stroke) for stroke in drawn])
        assert (found["text"], found["reason"]) == (read.text, read.reason)
        browser.clear(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_hard_to_use(chromium, address, scheme):
    """By axe-core, when ``DIGITS_AXE`` names its ``axe.min.js``, in each state on a phone; nothing is wider than it."""
    settings = {
        "color_scheme": scheme,
        "viewport": {"width": 360, "height": 740},
        "has_touch": True,
    }
    with opened(chromium, address, **settings) as page:
        for name in (None, "2026", "scribble"):
            assert page.locator(".digits-inside[open]").count() == 0  # on a phone
            if name:
                browser.clear(page)
                browser.draw_at_once(page, DRAWN[name])
                browser.settled(page, points(name))
            assert page.evaluate("document.documentElement.scrollWidth") <= 360
            if script := os.environ.get("DIGITS_AXE"):
                page.evaluate(Path(script).read_text(encoding="utf-8"))
                found = page.evaluate("axe.run()")["violations"]
                assert [[one["id"], one["nodes"][0]["html"]] for one in found] == []


@pytest.fixture(scope="module")
def served(address):
    """The same page from a plain web server."""
    path = Path(address.removeprefix("file://"))
    handler = partial(SimpleHTTPRequestHandler, directory=path.parent)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/{path.name}"
        server.shutdown()


def test_any_static_server_will_do(chromium, served):
    """And 640 pixels, a window of 1280 at 200%, are enough."""
    with opened(chromium, served, offline=False, viewport={"width": 640, "height": 400}) as page:
        browser.draw_at_once(page, DRAWN["58"])
        assert browser.settled(page, points("58"))["text"] == "58"
        assert page.evaluate("document.documentElement.scrollWidth") <= 640


def test_a_drawing_travels_in_a_link(chromium, served):
    """Whoever opens it sees the drawing read as it was; a reload shows what was made of it."""
    settings = {"offline": False, "permissions": ["clipboard-read", "clipboard-write"]}
    with opened(chromium, served, **settings) as page:
        page.click("[data-send=link]")
        browser.wait(
            page, "document.querySelector('.digits-sent').value === 'Draw something first.'"
        )
        browser.draw_at_once(page, DRAWN["2026"])
        browser.settled(page, points("2026"))
        page.click("[data-send=link]")
        browser.wait(page, "document.querySelector('.digits-sent').value === 'The link is copied.'")
        link = page.evaluate("navigator.clipboard.readText()")
        assert page.url == served and len(link) < 2000
    with opened(chromium, link, offline=False) as page:
        assert browser.settled(page, points("2026"))["text"] == "2026"
        sent, got = (
            DRAWN["2026"],
            page.evaluate("document.querySelector('.digits-app').reader.strokes"),
        )
        assert all(np.abs(np.subtract(a, b)).max() <= 0.2 for a, b in zip(sent, got, strict=True))
        assert page.url == served
        browser.draw_at_once(page, [[(5, 5), (9, 9)]])
        browser.settled(page, points("2026") + 2)
        page.reload()
        browser.settled(page, points("2026") + 2)
        page.evaluate(f"location.hash = {link.partition('#')[2]!r}")  # another link in the same tab
        browser.settled(page, points("2026"))


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "0",
        "00000",
        "zz",
        "--",
        "0000-",
        "<b>hello</b>",
        "%00%00",
        "0000" * 5_000,
        "0000-" * 3_000,
        "0000-" * 200 + "0000",
    ],
)
def test_a_damaged_link_draws_nothing_and_says_so(chromium, served, damage):
    with opened(chromium, f"{served}#ink={damage}", offline=False) as page:
        assert "damaged" in page.locator(".digits-upload-note").inner_text()
        assert browser.answer(page)["points"] == "0" and page.url == served
        browser.draw_at_once(page, DRAWN["7"])
        assert browser.settled(page, points("7"))["text"] == "7"


@pytest.mark.parametrize("name", ["ink", "wide"])
def test_a_link_holds_every_place_of_the_pad(chromium, served, name):
    corner = {"ink": (280, 280), "wide": (560, 280)}[name]
    strokes = [[(0, 0), corner], [corner]]
    # where the pad becomes lower and no wider
    with opened(chromium, served, offline=False, viewport={"width": 600, "height": 1300}) as page:
        if name == "wide":
            page.click(".digits-wide")
        shape = page.locator(".digits-overlay").evaluate("it => it.width / it.height")
        assert shape == pytest.approx(corner[0] / corner[1], rel=0.01)
        browser.draw_at_once(page, strokes)
        browser.settled(page, 3)
        page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject())")
        page.click("[data-send=link]")
        browser.wait(page, f"document.querySelector('.digits-sent').value.includes('#{name}=')")
        link = page.locator(".digits-sent").inner_text()
    with opened(chromium, link, offline=False) as page:
        browser.settled(page, 3)
        got = page.evaluate("document.querySelector('.digits-app').reader.strokes")
        assert all(np.abs(np.subtract(a, b)).max() < 0.5 for a, b in zip(strokes, got, strict=True))


def test_a_drawing_is_saved_as_a_picture_with_its_answer(page, tmp_path):
    assert not page.locator(
        "[data-send=link]"
    ).is_visible()  # nobody else can open this file's address
    browser.draw_at_once(page, DRAWN["2026"])
    browser.settled(page, points("2026"))
    with page.expect_download() as saved:
        page.click("[data-send=picture]")
    assert saved.value.suggested_filename == "2026.png"
    saved.value.save_as(tmp_path / "2026.png")
    with Image.open(tmp_path / "2026.png") as picture:
        assert picture.size == (840, 960) and picture.convert("L").getextrema() == (24, 255)
    page.click(".digits-wide")
    with page.expect_download() as saved:
        page.click("[data-send=picture]")
    with Image.open(saved.value.path()) as picture:
        assert picture.size == (1680, 960)


def test_the_page_needs_nothing_but_itself(address):
    html = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    assert pages.Page(html).loads == []
    policy = html[html.index("default-src") : html.index("form-action")]
    assert "'none'" in policy and "unsafe" not in policy and "http" not in policy


def test_the_published_page_is_made_of_the_scripts_as_they_are(address):
    """``python -m digits.report.html outputs/reference outputs/reference/draw.html`` makes it anew."""
    made = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    assert (files.REFERENCE / "draw.html").read_text(encoding="utf-8") == made

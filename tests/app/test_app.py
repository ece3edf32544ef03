"""The app in a real browser, behind a real server, as a visitor has it."""

import io
import json
import os
import re
import signal
import sqlite3
import time
import urllib.request
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw

import browser
from digits.recognizer import ink
from digits.recognizer.model import Recognizer, available, chosen

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.browser]
EXAMPLES = ink.examples()
EXAMPLE = {example.name: example.strokes for example in EXAMPLES}
SEVEN = [[(80, 60), (140, 60), (200, 60), (170, 130), (140, 220)]]
HEAVY = ("tensorflow", "sklearn", "scipy", "matplotlib", "pandas", "cv2", "sqlalchemy")


@pytest.fixture(scope="module")
def visit(chromium, server):
    """Opens the app for another visitor; keywords are those of a browser context."""
    contexts = []

    def open_page(**options):
        contexts.append(
            chromium.new_context(**{"viewport": {"width": 1400, "height": 900}, **options})
        )
        page = contexts[-1].new_page()
        page.seen = SimpleNamespace(requests=[], errors=[])
        page.on("request", lambda request: page.seen.requests.append(request.url))
        page.on("pageerror", lambda error: page.seen.errors.append(str(error)))
        page.on("console", lambda line: line.type == "error" and page.seen.errors.append(line.text))
        return browser.visit(page, server)

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def shared(visit):
    """One visitor for all tests that leave the page as they found it."""
    return visit()


@pytest.fixture
def page(shared):
    yield shared
    if shared.locator(".digits-eraser[aria-pressed=true]").count():
        shared.click(".digits-eraser")
    shared.locator(".digits-brush").fill("14")  # as a visitor finds it
    browser.clear(shared)
    assert not shared.seen.errors


def points(strokes):
    return sum(map(len, strokes))


def draw(page, strokes):
    """Draw with the mouse and return the answer."""
    browser.draw(page, strokes)
    return browser.settled(page, points(strokes))


def has_ink(page, canvas="canvas:first-of-type"):
    """Whether the first canvas of the pad (the kernel's) or another shows anything."""
    return page.locator(f".digits-pad > {canvas}").evaluate(
        "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((v, i) => i % 4 == 3 && v > 100)"
    )


def reported(page, name):
    """What the kernel says of a control."""
    return json.loads(page.locator(".digits-state").get_attribute("data-state"))[name]


def kernel_of(page):
    """The process id of the page's own kernel."""
    identity = page.evaluate(
        "JSON.parse(document.getElementById('jupyter-config-data').textContent).kernelId"
    )
    return next(
        one.pid
        for one in psutil.process_iter(["cmdline"])
        if identity in " ".join(one.info["cmdline"] or ())
    )


# --- The first three seconds ----------------------------------------------------------------------------------------


def test_the_page_explains_itself_and_asks_nobody_but_its_server(visit, server):
    page = visit()
    assert page.title() == "Draw a digit" and page.locator("h1").inner_text() == "Draw a digit"
    assert page.get_attribute("html", "lang") == "en"
    assert browser.answer(page)["reason"] == "blank" and browser.answer(page)["digit"] == ""
    assert page.locator(".digits-bars li").count() == 10
    ours = (server.url, server.url.replace("http", "ws"), "data:", "blob:")
    foreign = [url for url in page.seen.requests if not url.startswith(ours)]
    assert not foreign and not page.seen.errors


def test_the_kernel_is_small_and_knows_no_tensorflow(visit):
    page = visit()
    for _ in range(3):
        draw(page, SEVEN)
        browser.clear(page)
    page.wait_for_timeout(1500)  # the models are measured when the page has been there for a second
    process = psutil.Process(kernel_of(page))
    loaded = " ".join(mapped.path for mapped in process.memory_maps())
    assert not [name for name in HEAVY if f"/{name}/" in loaded]
    assert process.memory_info().rss < 120e6


def test_the_answer_names_its_run_and_model(page):
    recognizer = Recognizer.load()
    facts = page.locator("footer dl").inner_text()
    assert recognizer.run in facts and recognizer.sha256[:12] in facts and "Commit" in facts


# --- Drawing --------------------------------------------------------------------------------------------------------


def test_a_mouse_draws_and_the_answer_changes_under_way(page):
    first, *rest = browser.on_pad(page, SEVEN[0])
    page.mouse.move(*first)
    page.mouse.down()
    page.mouse.move(*rest[0])
    browser.settled(page, 2)
    for point in rest[1:]:
        page.mouse.move(*point)
    shown = browser.settled(page, 5)
    page.mouse.up()
    wanted = Recognizer.load().predict_strokes([np.array(stroke, float) for stroke in SEVEN])
    assert (
        shown["digit"] == shown["text"] == str(wanted.digit)
        and shown["accepted"] == str(wanted.accepted).lower()
    )
    assert float(shown["confidence"]) == pytest.approx(wanted.confidence, abs=0.05)
    browser.until(lambda: has_ink(page), 2, "ink on the kernel's canvas")


def test_ink_does_not_wait_for_the_kernel(visit):
    page = visit()
    kernel = kernel_of(page)
    os.kill(kernel, signal.SIGSTOP)
    try:
        browser.draw(page, SEVEN)
        assert has_ink(page, ".digits-overlay") and not has_ink(page)
    finally:
        os.kill(kernel, signal.SIGCONT)
    browser.settled(page, 5)
    page.wait_for_timeout(500)
    assert has_ink(page) and not has_ink(page, ".digits-overlay")


def test_a_kernel_that_is_behind_gets_fewer_and_longer_messages(visit):
    page = visit()
    kernel, path = kernel_of(page), [(60 + 2 * k, 60 + 2 * k) for k in range(80)]
    os.kill(kernel, signal.SIGSTOP)
    try:
        started = time.monotonic()
        browser.draw(page, [path])
        took = time.monotonic() - started
        waiting = page.evaluate("[...digitsApp.apps.values()][0].sent.length")
    finally:
        os.kill(kernel, signal.SIGCONT)
    assert waiting <= 6 + took / 0.25
    browser.settled(page, len(path))
    browser.until(
        lambda: page.evaluate("[...digitsApp.apps.values()][0].sent.length") == 0,
        5,
        "an answer to each",
    )


def test_the_kernels_are_the_quick_ones(visit):
    assert "digits.app.kernel.Kernel" in " ".join(psutil.Process(kernel_of(visit())).cmdline())


def test_an_interrupt_breaks_off_no_message(visit, server):
    """A server sends one to each kernel that it ends; with a message in hand it left an error in the log."""
    page = visit()
    kernel = kernel_of(page)
    first, *rest = browser.on_pad(page, [(60 + k % 100, 60 + k) for k in range(150)])
    page.mouse.move(*first)
    page.mouse.down()
    for point in rest:
        page.mouse.move(*point)
        os.kill(kernel, signal.SIGINT)
    page.mouse.up()
    browser.settled(page, 150)
    assert "KeyboardInterrupt" not in server.log.read_text()


def test_leaving_the_pad_and_releasing_outside_ends_the_stroke(page):
    inside, outside, back = browser.on_pad(page, [(140, 100), (140, -40), (140, 140)])
    page.mouse.move(*inside)
    page.mouse.down()
    page.mouse.move(*outside)
    page.mouse.up()
    page.mouse.move(*back)
    assert browser.settled(page, 2)["points"] == "2"
    page.wait_for_timeout(300)
    assert browser.answer(page)["points"] == "2"


def test_only_the_main_button_draws(page):
    page.mouse.move(*browser.on_pad(page, [(100, 100)])[0])
    page.mouse.down(button="right")
    page.mouse.move(*browser.on_pad(page, [(150, 150)])[0])
    page.mouse.up(button="right")
    page.wait_for_timeout(200)
    assert browser.answer(page)["points"] == "0"


def touch(session, kind, *positions):
    fingers = [{"x": x, "y": y, "id": number} for number, (x, y) in positions]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": fingers})


def test_a_finger_draws_and_a_second_one_does_not_disturb(visit):
    page = visit(
        viewport={"width": 360, "height": 740},
        has_touch=True,
        is_mobile=True,
        device_scale_factor=3,
    )
    session = page.context.new_cdp_session(page)
    path = browser.on_pad(
        page, [(80 + 20 * k, 60) for k in range(7)] + [(195 - 7 * k, 80 + 18 * k) for k in range(8)]
    )
    palm = browser.on_pad(page, [(30, 250)])[0]
    touch(session, "touchStart", (1, path[0]))
    for number, point in enumerate(path[1:], 1):
        if number == 5:
            touch(session, "touchStart", (1, path[4]), (2, palm))
        touch(session, "touchMove", (1, point), *[(2, palm)] * (number >= 5))
    touch(session, "touchEnd")
    browser.until_state(page, "undo", True)
    page.wait_for_timeout(300)
    shown = browser.answer(page)
    assert shown["text"] == "7" and 10 <= int(shown["points"]) <= len(path) + 1
    assert page.evaluate("scrollY") == 0 and not page.seen.errors


def test_a_finger_that_is_taken_away_ends_the_stroke(visit):
    page = visit(has_touch=True)
    session = page.context.new_cdp_session(page)
    path = browser.on_pad(page, [(100, 100), (120, 120), (140, 140)])
    touch(session, "touchStart", (1, path[0]))
    touch(session, "touchMove", (1, path[1]))
    touch(session, "touchCancel")
    browser.settled(page, 2)
    page.wait_for_timeout(200)
    assert not page.evaluate("Boolean([...digitsApp.apps.values()][0].pen)")


def test_a_pen_draws_and_its_other_end_erases(page):
    session = page.context.new_cdp_session(page)
    path = browser.on_pad(page, SEVEN[0])
    kinds = ["mousePressed", *["mouseMoved"] * 4, "mouseReleased"]
    for kind, (x, y) in zip(kinds, [*path, path[-1]], strict=True):
        session.send(
            "Input.dispatchMouseEvent",
            {
                "type": kind,
                "x": x,
                "y": y,
                "button": "left",
                "clickCount": 1,
                "buttons": int(kind != "mouseReleased"),
                "pointerType": "pen",
            },
        )
    assert browser.settled(page, 5)["text"] == "7"
    page.evaluate("""() => {
        const pad = document.querySelector(".digits-pad canvas"), box = pad.getBoundingClientRect();
        for (const type of ["pointerdown", "pointerup"])
            pad.dispatchEvent(new PointerEvent(type, {bubbles: true, pointerType: "pen", button: 5, buttons: 32,
                clientX: box.left + box.width / 2, clientY: box.top + 60 / 280 * box.height}));
    }""")
    browser.wait(page, "document.querySelector('.digits-answer').dataset.points != 5")
    assert reported(page, "tool") == "pen"


def test_undo_redo_eraser_clear_by_button_and_by_key(page):
    draw(page, EXAMPLE["7-crossed"])
    total, first = points(EXAMPLE["7-crossed"]), len(EXAMPLE["7-crossed"][0])
    page.click(".digits-undo")
    browser.settled(page, first)
    page.keyboard.press("y")
    browser.settled(page, total)
    page.keyboard.press("Control+z")
    browser.settled(page, first)
    page.keyboard.press("Control+Shift+z")
    browser.settled(page, total)
    page.keyboard.press("e")
    page.wait_for_selector(".digits-eraser[aria-pressed=true]")
    browser.draw(page, [[(60, 130), (240, 130)]])
    browser.wait(page, f"document.querySelector('.digits-answer').dataset.points < {total}")
    page.keyboard.press("z")
    browser.settled(page, total)
    page.keyboard.press("c")
    browser.settled(page, 0)
    assert not has_ink(page)
    page.click(".digits-undo")
    browser.settled(page, total)


def test_keys_are_left_to_those_who_need_them(visit):
    """No shortcut where a letter means something else, none for those who switch them off, and never the browser's."""
    page = visit()  # of its own: a letter in the list of models chooses one
    draw(page, SEVEN)
    for control in (".digits-model", ".digits-upload input"):
        page.locator(control).focus()
        page.keyboard.press("c")
        page.keyboard.press("z")
    page.locator("h1").click()
    page.keyboard.press("Control+c")
    page.keyboard.press("Alt+c")
    page.locator(".digits-keys").uncheck()
    page.keyboard.press("c")
    page.keyboard.press("e")
    page.wait_for_timeout(300)
    assert browser.answer(page)["points"] == "5" and reported(page, "tool") == "pen"
    page.keyboard.press("Control+z")
    browser.settled(page, 0)
    page.locator(".digits-keys").check()
    page.locator(".digits-undo").focus()
    page.keyboard.press("y")
    browser.settled(page, 5)


def test_the_list_of_models_keeps_the_keyboard(visit):
    """It is made anew with every model; a second letter must not fall through to the page, where it may undo."""
    page = visit()
    draw(page, SEVEN)
    page.locator(".digits-model").focus()
    name = next(name for name in available(Recognizer.load().run) if name[0] not in "fi")
    page.keyboard.press(name[0])
    browser.until_state(page, "model", name)
    page.wait_for_timeout(300)
    assert page.evaluate("document.activeElement.matches('.digits-model')")
    page.keyboard.press("z")
    page.wait_for_timeout(300)
    assert browser.answer(page)["points"] == "5"


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_ink_is_where_the_pointer_was_on_any_screen(visit, scale):
    page = visit(device_scale_factor=scale, viewport={"width": 700, "height": 900})
    line = """canvas => {
        const {data, width, height} = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
        const inked = [...Array(width * height).keys()].filter(i => data[4 * i + 3] > 127);
        const mean = values => values.reduce((a, b) => a + b, 0) / values.length;
        const [xs, ys] = [inked.map(i => i % width + 0.5), inked.map(i => Math.floor(i / width) + 0.5)];
        return [mean(xs) / height * 280, mean(ys) / height * 280, inked.length / height / height * 280 * 280, width];
    }"""
    kernel = kernel_of(page)
    os.kill(kernel, signal.SIGSTOP)  # until then only the page's own ink is there
    try:
        browser.draw(page, [[(100, 200), (140, 200), (180, 200)]])
        own = page.locator(".digits-overlay").evaluate(line)
    finally:
        os.kill(kernel, signal.SIGCONT)
    browser.settled(page, 3)
    browser.until(lambda: has_ink(page), 5, "the kernel's ink")
    for x, y, area, _ in (own, page.locator(".digits-pad > canvas").first.evaluate(line)):
        assert (x, y) == (pytest.approx(140, abs=1), pytest.approx(200, abs=1))
        assert area == pytest.approx(80 * 14 + np.pi * 7**2, rel=0.05)
    assert own[3] == pytest.approx(
        scale * page.locator(".digits-overlay").bounding_box()["width"], abs=2
    )
    page.context.close()


def test_the_brush_changes_the_look_and_not_the_answer(page):
    before = draw(page, SEVEN)
    for _ in range(5):
        page.keyboard.press("]")
    browser.until_state(page, "brush", 24)
    assert browser.answer(page)["confidence"] == before["confidence"]
    page.locator(".digits-brush").fill("20")
    browser.until_state(page, "brush", 20)


def test_a_resize_in_the_middle_of_a_stroke(visit):
    page = visit(device_scale_factor=2)
    page.mouse.move(*browser.on_pad(page, [(140, 40)])[0])
    page.mouse.down()
    page.mouse.move(*browser.on_pad(page, [(140, 120)])[0])
    browser.settled(page, 2)
    page.set_viewport_size({"width": 500, "height": 800})
    page.wait_for_timeout(200)
    page.mouse.move(*browser.on_pad(page, [(140, 240)])[0])
    page.mouse.up()
    browser.settled(page, 3)
    width = page.locator(".digits-overlay").evaluate(
        "c => [c.width, c.getBoundingClientRect().width]"
    )
    assert width[0] == pytest.approx(2 * width[1], abs=2)
    assert browser.answer(page)["text"] == "1"


def test_the_wheel_scrolls_the_page_over_the_pad(page):
    page.mouse.move(*browser.on_pad(page, [(140, 140)])[0])
    page.mouse.wheel(0, 120)
    browser.wait(page, "scrollY > 0")
    page.evaluate("scrollTo(0, 0)")


def test_forged_messages_are_refused_and_do_no_harm(page):
    for text in ("{", '{"seq": 1, "ops": [["move", null, 1e400]]}', "x" * 500_000):
        page.locator(".digits-pad canvas").first.evaluate(
            "(canvas, key) => canvas.dispatchEvent(new KeyboardEvent('keydown', {key}))", text
        )
    page.wait_for_selector(".digits-message.digits-error")
    assert draw(page, SEVEN)["text"] == "7"
    assert not page.locator(".digits-message").count()


# --- The truth ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [one.name for one in EXAMPLES if one.expected is None])
def test_what_is_no_digit_is_not_taken_for_one(page, name):
    browser.draw_at_once(page, EXAMPLE[name])
    shown = browser.settled(page, points(EXAMPLE[name]))
    assert (
        shown["accepted"] == "false"
        and shown["reason"] in ("not a digit", "unsure")
        and shown["digit"]
    )
    assert re.search("not", page.locator(".digits-verdict").inner_text(), re.IGNORECASE)


def test_the_threshold_says_what_it_means_and_withholds(page):
    draw(page, SEVEN)
    slider = page.locator(".digits-threshold")
    before = slider.input_value()
    slider.fill("0.99")
    browser.until_state(page, "threshold", 0.99)
    shown = browser.answer(page)
    assert (shown["reason"] == "unsure") == (float(shown["confidence"]) < 0.99)
    assert "digits drawn by people" in page.locator(".digits-meaning").inner_text()
    slider.fill(before)
    browser.until_state(page, "threshold", float(before))


def test_why_is_shown_with_a_legend_in_words(page):
    draw(page, SEVEN)
    page.click(".digits-why")
    page.wait_for_selector(".digits-map svg rect.digits-for")
    legend = page.locator(".digits-map").inner_text()
    assert "speaks for 7" in legend and "hatched" in legend
    page.click(".digits-why")
    page.wait_for_selector(".digits-map", state="detached")


def test_a_number_is_read_and_each_digit_can_be_looked_at(page):
    browser.draw_at_once(page, EXAMPLE["2026"])
    shown = browser.settled(page, points(EXAMPLE["2026"]))
    assert shown["text"] == "2026" and page.locator(".digits-box").count() == 4
    page.locator(".digits-part").nth(1).click()
    page.wait_for_selector('.digits-answer[data-digit="0"]')
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(".digits-part[aria-pressed=true]:nth-child(3)")
    assert page.evaluate("document.activeElement.className").startswith("digits-part")


@pytest.mark.parametrize(
    "name", [one.name for one in EXAMPLES if len(one.expected or "") == 1 < len(one.strokes)]
)
def test_a_digit_of_several_strokes_stays_one(page, name):
    browser.draw_at_once(page, EXAMPLE[name])
    assert len(browser.settled(page, points(EXAMPLE[name]))["text"]) == 1


def test_digits_whose_strokes_touch_are_told_apart(page):
    strokes, x = [], 10.0
    for glyph in ("8", "1", "4"):
        digit = [0.4 * (stroke - 140) + (0, 140) for stroke in EXAMPLE[glyph]]
        shift = x - min(stroke[:, 0].min() for stroke in digit)
        strokes += [stroke + (shift, 0) for stroke in digit]
        x = (
            max(stroke[:, 0].max() for stroke in strokes) - 4
        )  # with a pen of 20 pixels their ink runs together
    browser.draw_at_once(page, strokes)
    assert browser.settled(page, points(strokes))["text"] == "814"
    labels = page.locator(".digits-box").all_inner_texts()
    assert [label[0] for label in labels] == list("814") and all("%" in label for label in labels)


def test_boxes_keep_their_labels_apart_and_on_the_pad(page):
    """Nine ones, close together, at the pad's upper and its right edge."""
    strokes = [[(15 + 31 * k, y) for y in range(12, 120, 6)] for k in range(9)]
    browser.draw_at_once(page, strokes)
    browser.settled(page, points(strokes))
    overlaps, outside = page.evaluate("""() => {
        const boxes = [...document.querySelectorAll(".digits-box span")].map(span => span.getBoundingClientRect());
        const pad = document.querySelector(".digits-pad").getBoundingClientRect();
        const cover = (a, b) => Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left))
            * Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
        return [boxes.slice(1).filter((box, k) => cover(boxes[k], box) > 0.5 * box.height).length,
            boxes.filter(b => b.top < pad.top - 1 || b.right > pad.right + 1 || b.left < pad.left - 3).length];
    }""")
    assert page.locator(".digits-box").count() == 9 and outside == 0 and overlaps <= 1


def test_models_can_be_chosen(page):
    draw(page, SEVEN)
    for name in page.locator(".digits-model option").evaluate_all(
        "options => options.map(option => option.value)"
    ):
        page.locator(".digits-model").select_option(name)
        browser.until_state(page, "model", name)
        assert re.search(
            r"\d+ kB( · [\d.]+ ms in the run)?$",
            page.locator(".digits-model option:checked").inner_text(),
        )
        assert browser.answer(page)["text"] == "7"
        assert Recognizer.load(model=name).sha256[:12] in page.locator("footer dl").inner_text()
        told = "not measured" not in page.locator(".digits-meaning").inner_text()
        assert told == (name in ("float32", chosen(Recognizer.load().run)))
    page.locator(".digits-model").select_option(Recognizer.load().name)


# --- Examples and pictures ------------------------------------------------------------------------------------------


def test_examples_are_drawn_stroke_by_stroke_by_keyboard_too(page):
    shown = ".digits-example:visible"
    assert page.locator(".digits-example").count() >= 20 and page.locator(shown).count() == 13
    page.click(".digits-more")
    assert page.locator(shown).count() == page.locator(".digits-example").count()
    total = points(EXAMPLE["5-hooked"])
    page.locator("[data-do*='\"5-hooked\"']").focus()
    page.keyboard.press("Enter")
    browser.wait(
        page,
        """total => {
        const points = Number(document.querySelector(".digits-answer").dataset.points);
        return 0 < points && points < total;
    }""",
        total,
    )
    assert browser.settled(page, total)["text"] == "5"
    page.click(".digits-undo")
    browser.settled(page, 0)
    page.click(".digits-more")


def photo(text="407", size=(900, 500), kind="PNG"):
    """A picture of examples written on paper, as a file."""
    picture = Image.new("RGB", size, (222, 214, 196))
    brush = ImageDraw.Draw(picture)
    for place, digit in enumerate(text):
        for stroke in EXAMPLE[digit]:
            path = [(60 + 280 * place + 0.9 * x, 90 + 1.1 * y) for x, y in stroke.tolist()]
            brush.line(path, fill=(35, 40, 80), width=13, joint="curve")
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def choose(page, name, content):
    """Choose a file for the upload."""
    page.set_input_files(
        ".digits-upload input", {"name": name, "mimeType": "image/*", "buffer": content}
    )


def test_a_picture_is_read_by_choosing_dropping_and_pasting(page):
    choose(page, "row.jpg", photo(kind="JPEG"))
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="407"]')
    page.wait_for_selector(".digits-preview")
    for event, holder in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        browser.clear(page)
        page.wait_for_selector(".digits-answer[data-source=drawing]")
        page.locator(".digits-app").evaluate(
            """(root, [event, holder, bytes]) => {
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], "one.png", {type: "image/png"}));
            const made = event === "drop" ? new DragEvent(event, {dataTransfer: data, bubbles: true, cancelable: true})
                : new ClipboardEvent(event, {clipboardData: data, bubbles: true});
            root.dispatchEvent(made);
        }""",
            [event, holder, list(photo("3"))],
        )
        page.wait_for_selector('.digits-answer[data-source=photo][data-text="3"]')
    assert draw(page, SEVEN)["source"] == "drawing"
    page.wait_for_selector(".digits-preview", state="hidden")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF"])
def test_every_format_is_read(page, kind):
    choose(page, f"row.{kind.lower()}", photo(kind=kind))
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="407"]')
    assert (
        page.locator(".digits-preview").evaluate(
            "image => image.decode().then(() => image.naturalWidth)"
        )
        > 100
    )


def turned():
    """A phone's upright photo, stored lying, with EXIF that says so."""
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6
    Image.open(io.BytesIO(photo())).transpose(Image.Transpose.ROTATE_90).save(
        buffer, "JPEG", exif=exif
    )
    return buffer.getvalue()


def resized(width, kind="PNG"):
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(photo()))
    picture.resize((width, width * 5 // 9), Image.Resampling.LANCZOS).save(buffer, kind)
    return buffer.getvalue()


def transparent():
    """The ink alone, on nothing."""
    buffer, picture = io.BytesIO(), Image.open(io.BytesIO(photo()))
    picture.putalpha(picture.convert("L").point(lambda grey: 255 * (grey < 120)))
    picture.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "make",
    [turned, transparent, lambda: resized(90), lambda: resized(8000, "JPEG")],
    ids=["turned", "transparent", "tiny", "huge"],
)
def test_odd_pictures_are_read(page, make):
    choose(page, "row.png", make())
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="407"]')
    page.locator(".digits-part").nth(2).click()
    page.wait_for_selector('.digits-answer[data-source=photo][data-digit="7"]')


def test_a_hand_turns_a_picture_and_cuts_a_part_out(page):
    choose(page, "six.png", photo("6"))
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="6"]')
    for _ in range(2):  # by a quarter, twice; the picture in between lies on its side
        seen = page.locator(".digits-preview").get_attribute("src")
        page.click(".digits-turn")
        page.wait_for_function(
            "seen => document.querySelector('.digits-preview').src !== seen", arg=seen
        )
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="9"]')

    choose(page, "row.png", photo())
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="407"]')
    boxes = page.locator(".digits-marks .digits-box")
    where = [boxes.nth(k).bounding_box() for k in range(boxes.count())]
    shown = page.locator(".digits-preview").bounding_box()
    for box, left in zip(where, (60, 340, 620), strict=True):  # of 900 pixels, each some 250 wide
        middle = 900 * (box["x"] + box["width"] / 2 - shown["x"]) / shown["width"]
        assert left < middle < left + 250, (where, shown)
    page.locator(".digits-part").nth(1).click()
    page.click("text=Leave out the 0")
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="47"]')
    assert boxes.count() == 2 and page.locator(".digits-drop").is_visible()
    page.click(".digits-drop")
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="4"]')
    assert not page.locator(".digits-drop").is_visible()  # something is left

    page.click(".digits-cut")
    page.locator(".digits-marking canvas").scroll_into_view_if_needed()
    picture = page.locator(".digits-marking canvas").bounding_box()
    assert abs(picture["width"] / picture["height"] - 900 / 500) < 0.02
    left, right = (picture["x"] + share * picture["width"] for share in (0.66, 0.98))
    page.mouse.move(left, picture["y"] + 5)
    page.mouse.down()
    page.mouse.move(right, picture["y"] + picture["height"] - 5, steps=5)
    page.mouse.up()
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="7"]')
    assert page.locator(".digits-marking").count() == 0
    page.click(".digits-cut")
    page.wait_for_selector(".digits-marking")
    page.keyboard.press("Escape")
    assert page.locator(".digits-marking").count() == 0
    assert page.get_attribute(".digits-cut", "aria-pressed") == "false"


def test_a_picture_may_be_dropped_anywhere_and_the_page_stays(page):
    drag = """([kind, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], "one.png", {type: "image/png"}));
        const event = new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
        return event.defaultPrevented;
    }"""
    assert page.evaluate(drag, ["dragover", []])
    page.wait_for_selector(".digits-dropping")
    assert page.evaluate(
        drag, ["drop", list(photo("3"))]
    )  # else the browser would show the file instead
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="3"]')
    assert not page.locator(".digits-dropping").count()


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "empty"),
        (b"\x89PNG\r\n\x1a\n" + b"x" * 300, "damaged"),
        (b"hello", "picture"),
        (b"\xff\xd8" + bytes(12_500_000), "at most"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(page, content, words):
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    choose(page, "file.png", content)
    browser.wait(
        page,
        """words => [".digits-message", ".digits-upload-note"].some(
        name => document.querySelector(name)?.textContent.includes(words))""",
        words,
    )
    browser.until(lambda: in_view(page), 3, "the words on the pad in view")
    assert page.locator(".digits-notes p.digits-error").count() == 1


def test_a_large_picture_arrives_whole(page):
    noise = np.random.default_rng(1).integers(0, 30, (2600, 3600, 1), np.uint8)
    paper = np.asarray(Image.open(io.BytesIO(photo())).resize((3600, 2600)))
    buffer = io.BytesIO()
    Image.fromarray(np.minimum(paper, 225) + noise).save(buffer, "PNG", compress_level=1)
    assert 8e6 < buffer.tell() < 12e6
    choose(page, "large.png", buffer.getvalue())
    page.wait_for_selector(".digits-answer[data-source=photo]", timeout=30_000)
    assert browser.answer(page)["text"] == "407"


# --- Feedback -------------------------------------------------------------------------------------------------------


def stored(server):
    with sqlite3.connect(server.database) as connection:
        return connection.execute(
            "select verdict, label, digit, strokes, crop, model_sha256 from feedback_1"
        ).fetchall()


def test_feedback_is_kept_after_consent_and_never_before(visit, server):
    page = visit()
    draw(page, SEVEN)
    page.click(".digits-right")
    page.wait_for_selector(".digits-consent")
    assert "Kept" in page.locator(".digits-consent").inner_text()
    assert not server.database.exists()
    page.click(".digits-decline")
    page.wait_for_selector("text=Nothing is kept.")
    assert not server.database.exists()
    page.click(".digits-wrong[data-label='1']")
    page.click(".digits-agree")
    page.wait_for_selector("text=It is kept")
    (verdict, label, digit, strokes, crop, sha256) = stored(server)[0]
    assert (verdict, label, digit, crop) == ("wrong", 1, 7, None) and len(
        json.loads(strokes)[0]
    ) == 5
    assert sha256 == Recognizer.load().sha256
    page.click(".digits-right")  # what is said of the same ink replaces what was said
    browser.until(lambda: [one[:3] for one in stored(server)] == [("right", 7, 7)], 5, "it")
    browser.clear(page)
    browser.draw_at_once(page, EXAMPLE["58"])
    browser.settled(page, points(EXAMPLE["58"]))
    page.click(".digits-all")
    browser.until(lambda: len(stored(server)) == 3, 5, "both digits")
    assert [one[:3] for one in stored(server)[1:]] == [("right", 5, 5), ("right", 8, 8)]
    page.click(".digits-withdraw")
    page.wait_for_selector("text=All that you gave was deleted")
    assert not stored(server)
    page.click(".digits-right")
    page.wait_for_selector(".digits-consent")


def test_of_several_digits_the_one_that_is_looked_at_is_judged(visit, server):
    page = visit()
    before = len(stored(server)) if server.database.exists() else 0
    browser.draw_at_once(page, EXAMPLE["58"])
    browser.settled(page, points(EXAMPLE["58"]))
    page.locator(".digits-part").first.click()
    page.wait_for_selector("text=Was the 5 right?")
    assert page.locator(".digits-box.digits-chosen").inner_text().startswith("5")
    page.click(".digits-wrong[data-label='6']")
    page.wait_for_selector(".digits-consent:focus")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=It is kept")
    assert (
        page.evaluate("document.activeElement.dataset.label") == "6"
    )  # the keyboard is where it was
    choose(page, "three.png", photo("3"))
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="3"]')
    page.wait_for_selector("text=Was it right?")
    page.click(".digits-wrong[data-label='']")
    page.wait_for_selector("text=It is kept")
    first, second = stored(server)[before:]
    assert (
        first[:3] == ("wrong", 6, 5)
        and len(json.loads(first[3])) == len(EXAMPLE["5"])
        and first[4] is None
    )
    assert second[:4] == ("wrong", None, 3, None) and len(second[4]) == 28 * 28


# --- Others, and what goes wrong ------------------------------------------------------------------------------------


def test_two_visitors_never_see_each_other(visit):
    one, other = visit(), visit()
    assert kernel_of(one) != kernel_of(other)
    assert draw(one, SEVEN)["text"] == "7"
    browser.draw_at_once(other, EXAMPLE["3"])
    assert browser.settled(other, points(EXAMPLE["3"]))["text"] == "3"
    assert browser.answer(one)["text"] == "7"
    browser.clear(one)
    assert browser.answer(other)["text"] == "3" and has_ink(other) and not has_ink(one)


def test_a_drawing_travels_in_a_link(visit):
    """Shown where the browser copies nothing; whoever opens it gets it read, once what was drawn with a pause as well."""
    page = visit()
    first, *rest = browser.on_pad(page, SEVEN[0])
    page.mouse.move(*first)
    page.mouse.down()
    for point in rest:
        page.wait_for_timeout(1000 if point in (rest[1], rest[-1]) else 0)  # a hand that thinks
        page.mouse.move(*point)
    page.wait_for_timeout(1000)
    page.mouse.up()
    browser.settled(page, points(SEVEN))
    page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject())")
    page.click("[data-send=link]")
    browser.wait(page, "document.querySelector('.digits-sent').value.includes('#ink=')")
    link, other = page.locator(".digits-sent").inner_text(), visit()
    other.goto("about:blank")  # a new hash alone loads no page
    other.goto(link)
    other.wait_for_selector(browser.READY, timeout=60_000)
    assert browser.settled(other, points(SEVEN))["text"] == "7"
    assert "#" not in other.url


def test_a_wide_pad_holds_a_longer_number(visit):
    """It is read, rubbed out, kept over a reload and sent as on the square one, and no ink is ever out of sight."""
    page = visit()
    square = "document.querySelector('.digits-app').matches(':not(.digits-is-wide)')"
    draw(page, [[(140, 20), (320, 20)]])  # it leaves the square pad, and ends at its edge
    assert page.evaluate(square)
    browser.clear(page)

    page.click(".digits-wide")
    number = [
        [(0.35 * x + 20 + 110 * k, 0.35 * y + 90) for x, y in stroke.tolist()]
        for k, name in enumerate("27480")
        for stroke in EXAMPLE[name]
    ]
    assert draw(page, number)["text"] == "27480"
    x, y = browser.on_pad(page, [(509, 139)])[0]  # the 0's middle
    left, top, right, bottom, edge, shape = page.evaluate("""() => {
        const box = [...document.querySelectorAll(".digits-box")].pop().getBoundingClientRect();
        const pad = document.querySelector(".digits-pad").getBoundingClientRect();
        return [box.left, box.top, box.right, box.bottom, pad.right, pad.width / pad.height];
    }""")
    assert left < x < right < edge and top < y < bottom and shape == pytest.approx(2)

    page.click(".digits-wide")
    assert "ink on the right" in page.locator(".digits-upload-note").inner_text()
    page.evaluate("void (navigator.clipboard.writeText = () => Promise.reject())")
    page.click("[data-send=link]")
    browser.wait(page, "document.querySelector('.digits-sent').value.includes('#wide=')")
    link, other = page.locator(".digits-sent").inner_text(), visit()
    other.goto("about:blank")
    other.goto(link)
    page.reload()
    for one in (page, other):
        one.wait_for_selector(browser.READY, timeout=60_000)
        assert browser.settled(one, points(number))["text"] == "27480"
        assert not one.evaluate(square)

    page.click(".digits-eraser")
    browser.draw(page, [[(509, 30), (509, 250)], [(480, 139), (540, 139)]])
    page.wait_for_selector(
        ".digits-answer[data-text^='2748']:not([data-text='27480'])", timeout=10_000
    )
    page.click(".digits-eraser")
    browser.clear(page)
    page.click(".digits-wide")
    assert page.evaluate(square)
    page.click(".digits-undo")
    browser.wait(page, f"!({square})")
    assert browser.answer(page)["text"].startswith("2748")
    page.click("[data-do*='\"3\"']")
    page.wait_for_selector(".digits-answer[data-text='3']", timeout=20_000)
    assert page.evaluate(square) and not other.seen.errors


def test_an_example_that_a_reload_breaks_off_is_there_as_a_whole(visit):
    page = visit(reduced_motion="no-preference")
    page.click("[data-do*='\"2026\"']")
    page.wait_for_timeout(300)  # of the 1,100 ms that it is drawn in
    page.reload()
    page.wait_for_selector(browser.READY, timeout=60_000)
    page.wait_for_selector(".digits-answer[data-text='2026']", timeout=20_000)


def test_a_dead_kernel_is_said_and_a_reload_helps(visit):
    page = visit()
    draw(page, SEVEN)
    os.kill(kernel_of(page), signal.SIGKILL)
    page.wait_for_selector(".digits-lost[role=alert]", timeout=20_000)
    page.click(".digits-reload")
    page.wait_for_selector(browser.READY + ":not(.digits-is-lost)", timeout=60_000)
    assert browser.settled(page, points(SEVEN))["text"] == "7"  # the ink outlived both
    assert page.locator(".digits-undo[aria-disabled=true]").count() == 1


def test_a_slow_kernel_is_not_taken_for_dead_forever(visit):
    page = visit()
    kernel = kernel_of(page)
    os.kill(kernel, signal.SIGSTOP)
    try:
        page.wait_for_selector(".digits-lost[role=status]", timeout=20_000)
    finally:
        os.kill(kernel, signal.SIGCONT)
    page.wait_for_selector(".digits-lost", state="detached")
    assert draw(page, SEVEN)["text"] == "7"


def test_a_broken_line_is_no_dead_reader(chromium, server):
    """What is drawn meanwhile is read when it is back; a page that is touched after a pause asks at once."""
    context = chromium.new_context()
    with browser.SlowLine(server, 1e9, 0) as line:
        page = browser.visit(context.new_page(), line)
        line.broken = True
        browser.draw_at_once(page, SEVEN)
        page.wait_for_selector(".digits-lost[role=status]:has-text('Reconnecting')", timeout=20_000)
        assert page.locator(".digits-is-lost").count() == 0
        browser.draw_at_once(page, [[(20, 20), (20, 60)]])
        line.broken = False
        page.wait_for_selector(".digits-lost", state="detached", timeout=20_000)
        browser.settled(page, points(SEVEN) + 2)
        page.evaluate("for (const app of digitsApp.apps.values()) clearInterval(app.watch)")
        time.sleep(3.2)
        asked = "JSON.parse(document.querySelector('.digits-state').dataset.state).seq"
        before = page.evaluate(asked)
        page.mouse.move(5, 5)
        browser.wait(page, f"{asked} > {before}", seconds=5)
    context.close()


def photograph(kind: str, side: int) -> bytes:
    """A noisy picture, as large as a camera's, and as those are stored: lying, with EXIF that says so."""
    paper = Image.open(io.BytesIO(photo())).resize((side, side * 5 // 9)).convert("L")
    noise = np.random.default_rng(0).integers(-25, 26, (paper.height, paper.width))
    picture = Image.fromarray(np.clip(np.asarray(paper) + noise, 0, 255).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6 if kind == "JPEG" else 1
    turned = picture.transpose(Image.Transpose.ROTATE_90) if kind == "JPEG" else picture
    turned.save(file := io.BytesIO(), kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind, side, most", [("JPEG", 3600, 1_300_000), ("TIFF", 1200, 2e6)])
def test_a_photograph_passes_a_slow_line(chromium, server, kind, side, most):
    """At 1 Mbit/s up: made smaller where the browser knows the format, and with progress, not silence, where it does not."""
    content, context = photograph(kind, side), chromium.new_context()
    with browser.SlowLine(server, 1e9, 0.1, up=1e6 / 8) as line:
        page = browser.visit(context.new_page(), line)
        before = line.up
        page.set_input_files(
            ".digits-upload input", {"name": "x", "mimeType": "", "buffer": content}
        )
        page.wait_for_selector(".digits-progress:not([hidden])")
        shown = set()
        while not page.locator(".digits-answer[data-text='407']").count():
            assert page.locator(".digits-lost").count() == 0
            shown.add(page.locator(".digits-progress").evaluate("one => one.value"))
            time.sleep(0.2)
    assert line.up - before < most and len(content) > 700_000 and len(shown) > 3
    context.close()


def test_a_closed_page_frees_its_kernel(visit):
    page = visit()
    kernel = kernel_of(page)
    page.goto("about:blank")
    browser.until(lambda: not psutil.pid_exists(kernel), 15, "the kernel's end")


def test_the_server_takes_no_theme_or_template_from_strangers(server):
    evil = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E"
    for name in ("theme", "template"):
        with urllib.request.urlopen(
            f"{server.url}?voila-{name}={evil}&{name}={evil}", timeout=60
        ) as reply:
            assert b"<script>alert(1)" not in reply.read()
            assert "default-src 'none'" in reply.headers["Content-Security-Policy"]


# --- Everyone -------------------------------------------------------------------------------------------------------

CONTRAST = """() => {
    const parse = c => { const v = c.match(/[\\d.]+/g).map(Number); return [v[0], v[1], v[2], v[3] ?? 1]; };
    const light = ([r, g, b]) => [r, g, b].map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = e => {
        for (; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor);
            if (c[3] > 0.9) return c;
        }
        return [255, 255, 255];
    };
    const bad = [], seen = e => e ? Number(getComputedStyle(e).opacity) * seen(e.parentElement) : 1;
    for (const e of document.querySelectorAll(".digits-app *")) {
        const own = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
        const s = getComputedStyle(e), box = e.getBoundingClientRect();
        if (!own || !box.width || s.visibility === "hidden") continue;
        if (e.closest("[aria-hidden=true], .digits-hidden, [aria-disabled=true]")) continue;
        const back = behind(e), strength = seen(e);
        const a = light(parse(s.color).map((v, i) => strength * v + (1 - strength) * back[i]).slice(0, 3)), b = light(back);
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        const large = parseFloat(s.fontSize) >= 24 || (parseFloat(s.fontSize) >= 18.7 && s.fontWeight >= 700);
        if (ratio < (large ? 3 : 4.5)) bad.push([e.className, e.textContent.slice(0, 30), ratio.toFixed(2)]);
    }
    return bad;
}"""


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(visit, width, scheme):
    page = visit(
        viewport={"width": width, "height": 800}, color_scheme=scheme, has_touch=width < 500
    )
    browser.draw_at_once(page, EXAMPLE["2026"])
    browser.settled(page, points(EXAMPLE["2026"]))
    page.click(".digits-why")
    page.wait_for_selector(".digits-map")
    page.click(".digits-right")
    page.wait_for_selector(".digits-consent")
    choose(page, "no.pdf", b"%PDF-1.7")
    page.wait_for_selector(".digits-notes .digits-error")
    page.wait_for_timeout(400)  # colours change smoothly
    assert page.evaluate("document.scrollingElement.scrollWidth") <= width
    assert page.evaluate(CONTRAST) == []
    browser.clear(page)
    browser.draw_at_once(page, EXAMPLE["star"])
    browser.settled(page, points(EXAMPLE["star"]))
    page.wait_for_timeout(400)
    assert page.evaluate(CONTRAST) == []
    page.evaluate("scrollTo(0, 0)")
    pad, answer = (
        page.locator(".digits-pad").bounding_box(),
        page.locator(".digits-answer").bounding_box(),
    )
    assert pad["width"] == pytest.approx(pad["height"], abs=1)
    if width == 360:
        assert answer["y"] > pad["y"] + pad["height"] and pad["width"] > 300 and answer["y"] < 640
    else:
        assert answer["x"] > pad["x"] + pad["width"]
    small = page.evaluate(
        """least => [...document.querySelectorAll(
        ".digits-app :is(button:not(.digits-part), select, input[type=range]), .digits-upload")]
        .filter(e => e.offsetWidth && (e.offsetHeight < least || e.offsetWidth < least)).map(e => e.className)""",
        44 if width == 360 else 28,
    )  # a thumb needs more room than a mouse
    assert not small
    dark = page.evaluate("getComputedStyle(document.querySelector('.digits-app')).backgroundColor")
    assert (dark == "rgb(16, 19, 23)") == (scheme == "dark")
    page.context.close()


def test_everything_has_a_name_and_the_answer_is_read_out(page):
    nameless = page.evaluate("""() => [...document.querySelectorAll(".digits-app :is(button, input, select, img)")]
        .filter(e => !(e.ariaLabel || e.alt || e.textContent.trim() || e.closest("label")?.textContent.trim()))
        .map(e => e.outerHTML)""")
    assert not nameless
    line = page.locator("[role=status][aria-live=polite].digits-live")
    page.evaluate("""() => {
        window.said = [];
        new MutationObserver(() => said.push(document.querySelector(".digits-live").textContent))
            .observe(document.querySelector(".digits-live"), {childList: true});
    }""")
    draw(page, SEVEN)
    assert not page.evaluate("said")  # not a word while the pen is at work
    browser.wait(page, "/^7, .*sure/.test(document.querySelector('.digits-live').textContent)")
    assert line.count() == 1 and len(page.evaluate("said")) == 1


def test_an_answer_is_not_read_out_over_what_was_just_said(page):
    draw(page, SEVEN)
    page.wait_for_timeout(1500)
    said = page.evaluate("""async () => {
        const rest = time => new Promise(done => setTimeout(done, time)), said = [];
        const line = document.querySelector(".digits-live"), [app] = digitsApp.apps.values();
        line.textContent = "";
        document.querySelector(".digits-verdict").append("");
        await rest(850);
        app.say("Eraser");
        for (const time of [300, 1200]) { await rest(time); said.push(line.textContent); }
        return said;
    }""")
    assert said == ["Eraser", browser.answer(page)["say"]]


def test_what_was_switched_is_not_switched_back_by_older_news(page):
    """A state that the kernel sent before it heard of the switch."""
    draw(page, SEVEN)
    switched = page.evaluate("""() => {
        const [app] = digitsApp.apps.values(), old = app.root.querySelector(".digits-state[data-state]");
        app.toggle("why");
        app.toggle("tool");
        old.replaceWith(old.cloneNode(true));
        app.read();
        return [app.state.why, app.state.tool];
    }""")
    assert switched == [True, "eraser"]
    browser.until_state(page, "tool", "eraser")
    page.keyboard.press("w")
    browser.until_state(page, "why", False)


def test_what_is_done_is_said_and_found_without_a_mouse(page):
    """Buttons of a row by arrow keys; names that begin with what is seen; one main part, and a way past the pad."""
    said = "document.querySelector('.digits-live').textContent"

    def press(key: str, words: str) -> None:
        page.keyboard.press(key)
        browser.wait(page, f"{said} === '{words}'", seconds=5)

    draw(page, SEVEN)
    press("z", "Undone")
    browser.settled(page, 0)
    press("y", "Redone")
    browser.settled(page, points(SEVEN))
    press("e", "Eraser")
    press("e", "Pen")
    press("]", "Brush size 16")
    press("[", "Brush size 14")
    page.keyboard.press("w")
    browser.wait(page, f"{said}.startsWith('Most for it')", seconds=10)
    press("w", "Reasons hidden")
    press("c", "The pad is empty")
    page.focus(".digits-undo")
    for key, name in (("ArrowRight", "redo"), ("End", "wide"), ("ArrowLeft", "clear")):
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.className") == f"digits-{name}"
    browser.draw_at_once(page, EXAMPLE["58"])
    browser.settled(page, points(EXAMPLE["58"]))
    odd = page.evaluate("""() => [...document.querySelectorAll(".digits-app :is(button, label)")].filter(one => {
        const seen = one.innerText?.trim().split("\\n")[0], name = one.getAttribute("aria-label");
        return seen && name && !name.startsWith(seen);
    }).map(one => one.outerHTML)""")
    assert not odd
    assert page.locator("main, [role=main]").count() == 1
    assert page.get_by_role("region", name="Answer", exact=True).count() == 1
    page.focus(".digits-skip")
    page.keyboard.press("Enter")
    browser.wait(page, "document.activeElement.id === 'digits-answer'")


def test_it_prints_on_one_page_and_shows_what_is_chosen_in_few_colours(page):
    browser.draw_at_once(page, EXAMPLE["58"])
    browser.settled(page, points(EXAMPLE["58"]))
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf())) == 1
    page.emulate_media(forced_colors="active")
    colours = page.locator(".digits-part").evaluate_all(
        "all => all.map(one => getComputedStyle(one).backgroundColor)"
    )
    page.emulate_media(forced_colors="none")
    assert len(colours) == 2 and colours[0] != colours[1]


def test_labels_of_a_long_number_keep_apart(page):
    strokes = [[(15 + 26 * k, y) for y in range(60, 200, 6)] for k in range(10)]
    browser.draw_at_once(page, strokes)
    browser.settled(page, points(strokes))
    boxes = page.locator(".digits-box span").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect()).map(({left, right}) => [left, right])"
    )
    assert len(boxes) == 10 and all(a[1] <= b[0] for a, b in zip(boxes, boxes[1:], strict=False))


PLACES = """() => Object.fromEntries([
    ".digits-pad", ".digits-tools", ".digits-result", ".digits-bars", ".digits-seen", ".digits-right",
    ".digits-wrong", ".digits-why", ".digits-threshold", ".digits-gallery", ".digits-upload", ".digits-model"].map(name => {
    const box = document.querySelector(name).getBoundingClientRect();
    return [name, [box.left, box.top + scrollY, box.width, box.height].map(Math.round).join(" ")];
}))"""


def moved(page, before):
    """What is elsewhere now, or of another size."""
    return {
        name: (before[name], place)
        for name, place in page.evaluate(PLACES).items()
        if place != before[name]
    }


@pytest.mark.parametrize("width, height", [(1400, 900), (390, 664), (360, 740)])
def test_nothing_moves_when_the_answer_changes(visit, width, height):
    page = visit(viewport={"width": width, "height": height}, has_touch=width < 500)
    for why in (False, True):
        if why:
            page.click(".digits-why")
            page.wait_for_selector(".digits-map")
        empty = page.evaluate(PLACES)
        for name in ("3", "star", "58", "2026", "1-slanted"):
            browser.draw_at_once(page, EXAMPLE[name])
            browser.settled(page, points(EXAMPLE[name]))
            page.wait_for_timeout(600)  # the map comes when the pen rests
            assert moved(page, empty) == {}, name
            browser.clear(page)
        choose(page, "no.pdf", b"%PDF-1.7")
        page.wait_for_selector(".digits-notes .digits-error")
        page.click(".digits-right")
        page.wait_for_selector(".digits-told .digits-message")
        assert moved(page, empty) == {}
        page.click(".digits-clear")
    page.context.close()


def test_a_phone_shows_pad_and_answer_together(visit):
    page = visit(viewport={"width": 390, "height": 664}, has_touch=True, is_mobile=True)
    browser.draw_at_once(page, EXAMPLE["3"])
    browser.settled(page, points(EXAMPLE["3"]))
    assert page.evaluate("""() => [".digits-pad", ".digits-figure", ".digits-verdict strong"].every(name => {
        const box = document.querySelector(name).getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight;
    })""")
    page.context.close()


def test_the_keyboard_reaches_everything_and_is_never_trapped(page):
    page.locator("h1").click()
    reached, unseen = set(), []
    for _ in range(80):
        page.keyboard.press("Tab")
        names, line = page.evaluate("""() => {
            const element = document.activeElement, line = one => parseFloat(getComputedStyle(one).outlineWidth);
            const shown = [element, element.closest("label"), element.closest(".digits-pad")].filter(Boolean);
            return [[element.className, element.parentElement?.className ?? ""],
                Math.max(...shown.map(one => getComputedStyle(one).outlineStyle === "none" ? 0 : line(one)))];
        }""")
        reached.update(names)
        if "digits" in "".join(names) and line < 2:
            unseen.append(names)
    assert not unseen
    wanted = {
        "undo",
        "eraser",
        "clear",
        "brush",
        "right",
        "wrong",
        "example",
        "why",
        "threshold",
        "upload",
        "model",
        "keys",
    }
    assert not [name for name in wanted if not any(f"digits-{name}" in one for one in reached)]


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_less_motion_is_granted(visit, motion):
    page, total = visit(reduced_motion=motion), points(EXAMPLE["2-loop"])
    page.evaluate("""() => {
        window.seen = [];
        new MutationObserver(() => seen.push(Number(document.querySelector(".digits-answer").dataset.points)))
            .observe(document.querySelector(".digits-result"), {childList: true, subtree: true});
    }""")
    page.click(".digits-more")
    page.click("[data-do*='\"2-loop\"']")
    browser.settled(page, total)
    under_way = page.evaluate(
        "total => seen.filter(points => 0 < points && points < total).length", total
    )
    assert (under_way == 0) == (motion == "reduce")


def in_view(page):
    """Whether the whole pad can be seen."""
    return page.locator(".digits-pad").evaluate("""pad => {
        const box = pad.getBoundingClientRect();
        return box.top >= 0 && box.bottom <= innerHeight;
    }""")


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_what_starts_below_the_pad_brings_it_into_view(visit, motion):
    page = visit(
        viewport={"width": 360, "height": 640},
        has_touch=True,
        is_mobile=True,
        reduced_motion=motion,
    )
    page.evaluate("""() => {
        window.moves = [];
        Element.prototype.scrollIntoView = new Proxy(Element.prototype.scrollIntoView, {
            apply(call, element, [how]) { window.moves.push(how.behavior); return Reflect.apply(call, element, [how]); }});
    }""")
    page.locator(".digits-more").tap()
    page.locator("[data-do*='\"5-hooked\"']").scroll_into_view_if_needed()
    assert not in_view(page)
    page.locator("[data-do*='\"5-hooked\"']").tap()
    browser.until(lambda: in_view(page), 3, "the pad in view")
    browser.settled(page, points(EXAMPLE["5-hooked"]))
    page.locator(".digits-upload").scroll_into_view_if_needed()
    assert not in_view(page)
    choose(page, "one.png", photo("3"))
    browser.until(lambda: in_view(page), 3, "the pad in view")
    page.wait_for_selector('.digits-answer[data-source=photo][data-text="3"]')
    assert (
        page.evaluate(
            "moves.every(how => how === (matchMedia('(prefers-reduced-motion: reduce)').matches "
            "? 'auto' : 'smooth'))"
        )
        and page.evaluate("moves.length") >= 2
    )


def test_a_pad_in_view_stays_where_it_is(page):
    page.evaluate("scrollTo(0, 0)")
    page.locator("[data-do*='\"5-hooked\"']").evaluate("button => button.click()")
    browser.settled(page, points(EXAMPLE["5-hooked"]))
    assert page.evaluate("scrollY") == 0


# --- Other people's digits, and JupyterLab --------------------------------------------------------------------------


def test_two_hundred_pen_digits_get_the_answers_of_the_library(page):
    from digits import data

    try:
        digits = data.load_pen_digits("tes")
    except data.DataMissing as missing:
        pytest.skip(str(missing))
    recognizer, differing = Recognizer.load(), []
    for index in np.random.default_rng(1).permutation(len(digits))[:200]:
        strokes = [stroke * (280 / 500) for stroke in digits[index].strokes]
        wanted = recognizer.predict_strokes(strokes)
        browser.clear(page)
        browser.draw_at_once(page, strokes)
        shown = browser.settled(page, points(strokes))
        same = (shown["digit"], shown["text"], shown["accepted"], shown["reason"]) == (
            str(wanted.digit),
            str(wanted.digit),
            str(wanted.accepted).lower(),
            wanted.reason,
        )
        if not same:
            differing.append((int(index), wanted.digit, round(wanted.confidence, 3), shown))
    assert not differing


def run_all_cells(page):
    """What JupyterLab's menu does."""
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_timeout(2000)  # commands are there before they work
    page.click("text=Run >> nth=0")
    page.click("text=Run All Cells")
    page.wait_for_function(
        "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"
    )
    page.wait_for_selector(browser.READY, timeout=60_000)
    page.locator(".digits-pad").scroll_into_view_if_needed()


def test_the_notebook_works_in_jupyterlab_and_after_a_reload_too(chromium):
    with browser.lab() as server:
        page, problems = chromium.new_page(viewport={"width": 1500, "height": 1000}), []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(server.url)
        for _ in range(2):
            run_all_cells(page)
            cells = page.locator(".jp-Cell").count()
            assert draw(page, SEVEN)["text"] == "7"
            browser.until(lambda: has_ink(page), 5, "the kernel's ink")
            page.keyboard.press("z")
            browser.settled(page, 0)
            assert page.locator(".jp-Cell").count() == cells
            page.locator(".jp-Notebook .jp-Cell").first.evaluate(
                """(cell, bytes) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], "one.png", {type: "image/png"}));
                cell.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true}));
            }""",
                list(photo("3")),
            )
            page.wait_for_timeout(500)
            assert browser.answer(page)["source"] == "drawing"  # it was meant for the notebook
            page.reload()  # the kernel lives on
        assert not problems
        page.close()

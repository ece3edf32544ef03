"""What the page shows of an answer, drawn by view.js in a browser from made-up data."""

import numpy as np
import pytest
from playwright.sync_api import sync_playwright

import browser
from digits.app import STATIC
from digits.app.app import PIECES

pytestmark = pytest.mark.browser
EVIL = '"><script>document.title = "run"</script><img src=x onerror="document.title = 1">'


@pytest.fixture(scope="module")
def page():
    with sync_playwright() as playwright:
        chromium = browser.launch(playwright)
        page = chromium.new_page()
        pieces = "".join(PIECES.values())
        page.set_content(f"<div id=root>{pieces}<div class=digits-marks></div></div>")
        page.add_script_tag(content=(STATIC / "view.js").read_text(encoding="utf-8"))
        page.evaluate("""() => {
            window.root = document.getElementById("root");
            view.set(root, {notice: "", limit: 12e6, examples: []});
        }""")
        yield page
        chromium.close()


def part(confidence=0.9, reason="", digit=3, **more):
    probabilities = [confidence if k == digit else 0 for k in range(10)]
    made = {"text": str(digit), "digit": digit, "confidence": confidence, "reason": reason}
    return made | {"probabilities": probabilities, "candidates": [digit], "box": None} | more


def shown(page, *parts, **more):
    reason = next((one["reason"] for one in parts if one["reason"]), "") if parts else "blank"
    answer = {"seq": 1, "text": "".join(one["text"] for one in parts), "reason": reason}
    answer |= {"points": 9, "seconds": 0.001, "source": "drawing", "chosen": 0, "parts": parts}
    page.evaluate("found => view.answer(root, found)", answer | more)
    verdict = page.locator(".digits-verdict").inner_text().replace("\n", " ")
    return page.locator(".digits-answer").evaluate("it => ({...it.dataset})"), verdict


@pytest.mark.parametrize(
    "share, said",
    [(0.5, "50%"), (0.994, "99.4%"), (0.9999, "over 99.9%"), (1.0, "over 99.9%")],
)
def test_a_confidence_never_claims_certainty(page, share, said):
    assert shown(page, part(share))[1] == f"{said} sure"


@pytest.mark.parametrize("lowest, said", [(0.84, "each at least 84%"), (0.9995, "each over 99.9%")])
def test_of_several_digits_the_least_sure_is_said(page, lowest, said):
    data, verdict = shown(page, part(lowest), part(0.9999))
    assert verdict == f"{said} sure" and data["say"] == f"3 3, {said} sure."
    assert page.locator(".digits-part").count() == 2


@pytest.mark.parametrize(
    ("candidates", "said"),
    [([3, 8], "3 or 8"), ([3, 8, 5], "3, 8 or 5"), ([3], ""), ([3, 8, 5, 9], "")],
)
def test_a_doubtful_answer_names_what_it_may_be(page, candidates, said):
    data, verdict = shown(page, part(0.4, "unsure", candidates=candidates))
    assert (
        data["accepted"] == "false"
        and data["say"] == f"Not sure{said and ': '}{said}. Best guess 3."
    )
    assert (
        verdict.replace("Not sure", "Not sure ")
        == f"Not sure {said}{said and ', '}best guess 3, 40%"
    )
    for others in (
        [part(0.4, "not a digit", candidates=candidates)],
        [part(0.4, "unsure", candidates=candidates), part()],
    ):
        data, verdict = shown(page, *others)
        assert " or " not in data["say"] + verdict


def test_a_blank_is_no_answer(page):
    data, verdict = shown(page)
    assert (data["reason"], data["digit"], data["say"]) == (
        "blank",
        "",
        "",
    ) and "appears" in verdict


def test_the_bars_and_the_picture_are_the_answer_s(page):
    shown(page, part(0.75, image="/w" + "A" * 1045 + "="))
    widths = page.locator(".digits-bars s").evaluate_all("all => all.map(one => one.style.width)")
    assert widths[3] == "75%" and widths[4] == "0%"
    pixels = page.locator(".digits-seen canvas").evaluate(
        "it => [...it.getContext('2d').getImageData(0, 0, 2, 1).data]"
    )
    assert pixels == [255, 255, 255, 255, 0, 0, 0, 255]


def test_what_others_wrote_is_text_on_the_page(page):
    page.evaluate(
        """evil => {
        view.marks(root.querySelector(".digits-marks"), {parts: []}, {name: evil, src: "", size: [4, 3]}, 20);
        view.state(root, {note: {kind: "error", text: evil}, told: {kind: "consent", text: evil},
            models: [[evil, evil]], model: evil, meaning: null, facts: [[evil, evil]]});
        view.set(root, {notice: evil, limit: 1,
            examples: [{name: evil, title: evil, strokes: []}]});
    }""",
        EVIL,
    )
    assert page.locator("#root script, #root img:not(.digits-preview)").count() == 0
    assert page.title() == "" and EVIL in page.locator(".digits-consent").inner_text()


def test_boxes_lie_on_the_picture_where_the_pieces_are(page):
    """A picture twice as wide as high fills the middle of the pad; a drawing's answer has no place in it."""
    drawn = {"parts": [part(box=[100, 50, 200, 150])], "chosen": 0, "source": "drawing"}
    for found, boxes in ((drawn, 0), (drawn | {"source": "photo"}, 1)):
        page.evaluate(
            """found => view.marks(root.querySelector(".digits-marks"), found,
            {name: "a", src: "", size: [400, 200]}, 20)""",
            found,
        )
        assert page.locator(".digits-marks .digits-box").count() == boxes
    style = page.locator(".digits-marks .digits-box").evaluate(
        "box => ['left', 'top', 'width', 'height'].map(side => parseFloat(box.style[side]))"
    )
    expected = [25 - 200 / 280, 37.5 - 200 / 280, 25 + 400 / 280, 25 + 400 / 280]
    np.testing.assert_allclose(style, expected, atol=0.06)  # per cent of the pad; a rim of 2 pixels


def test_labels_of_neighbours_do_not_cover_each_other(page):
    parts = [part(box=[20 + 30 * k, 60, 40 + 30 * k, 200]) for k in range(4)]
    page.evaluate(
        "([parts]) => view.marks(root.querySelector('.digits-marks'), {parts, chosen: 1}, null, 20)",
        [parts],
    )
    kinds = page.locator(".digits-box").evaluate_all("all => all.map(one => one.className)")
    assert ["digits-low" in kind for kind in kinds] == [False, True, False, True]
    assert "digits-chosen" in kinds[1] and len(kinds) == 4

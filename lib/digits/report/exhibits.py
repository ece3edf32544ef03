"""Figures that answer a pointer, a finger or a key: a confusion matrix that shows its images, a gallery with a filter.

HTML and CSS only, so that they work in JupyterLab and in the report alike. ``Run.figure`` shows one on a screen in the
place of a picture, which stays what is printed and kept.
"""

import base64
import html
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from digits.report.plots_evaluation import percent

MOST = 40  # images behind one cell
_STYLE = f"<style>{(Path(__file__).parent / 'template' / 'exhibits.css').read_text(encoding='utf-8')}</style>"


def confusion(counts: np.ndarray, images: np.ndarray, errors: pd.DataFrame, name: str) -> str:
    """A confusion matrix whose error cells show their images when they are pointed at, tapped or reached by arrow keys.

    counts: (10, 10), row = true digit; images: (n, 28, 28[, 1]) in [0, 1], all that ``errors`` (from
    ``evaluation.error_table``) indexes; name: unique among the exhibits of a report. The largest confusion is open.
    """
    wrong = counts - np.diag(np.diag(counts))
    opened = np.unravel_index(wrong.argmax(), wrong.shape)
    rows = []
    for digit, row in enumerate(counts):
        cells = "".join(
            _cell(counts, digit, read, images, errors, name, (digit, read) == opened)
            for read in range(len(row))
        )
        rows.append(f'<tr><th scope="row">{digit}</th>{cells}</tr>')
    heads = "".join(f'<th scope="col">{read}</th>' for read in range(len(counts)))
    return (
        f'<div class="digits-exhibit digits-confusion">{_STYLE}<p class="axis">Row: true digit. Column: read as. Point at '
        f"or tap a number to see its images.</p><table><thead><tr><th></th>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def gallery(images: np.ndarray, errors: pd.DataFrame, name: str) -> str:
    """Every wrong answer of ``errors`` as a tile, in its order, with a filter by true digit; arguments as above."""
    totals = errors["label"].value_counts()
    choices = [("all", f"all {len(errors)}", False)]
    choices += [(str(digit), str(digit), digit not in totals.index) for digit in range(10)]
    filters = "".join(
        f'<input type="radio" name="{name}" id="{name}-{value}" value="{value}"'
        f"{' checked' if value == 'all' else ''}{' disabled' if disabled else ''}>"
        f'<label for="{name}-{value}">{label}</label>'
        for value, label, disabled in choices
    )
    return (
        f'<div class="digits-exhibit digits-gallery">{_STYLE}<fieldset><legend>True digit</legend>{filters}</fieldset>'
        f"<div>{_tiles(images, errors.to_dict('records'))}</div></div>"
    )


def _cell(
    counts: np.ndarray,
    digit: int,
    read: int,
    images: np.ndarray,
    errors: pd.DataFrame,
    name: str,
    opened: bool,
) -> str:
    count = counts[digit, read]
    if digit == read or not count:
        return f'<td class="right">{count}</td>' if digit == read else "<td></td>"
    behind = errors[(errors["label"] == digit) & (errors["first"] == read)]
    share = count / (counts - np.diag(np.diag(counts))).max()
    more = f", the {MOST} most confident" if len(behind) > MOST else ""
    key = f"{name}-{digit}{read}"
    return (
        f'<td style="background:rgba(0,114,178,{0.15 + 0.8 * share:.2f})">'
        f'<input type="radio" name="{name}" id="{key}"{" checked" if opened else ""} '
        f'aria-label="{digit} read as {read}: {count}"><label for="{key}"{_dark(share)}>{count}</label>'
        f'<div class="digits-behind"><b>{digit} read as {read}: {count}{more}</b>'
        f"{_tiles(images, behind.head(MOST).to_dict('records'))}</div></td>"
    )


def _dark(share: float) -> str:
    return ' class="dark"' if share > 0.45 else ""


def _tiles(images: np.ndarray, errors: Iterable[dict]) -> str:
    return "".join(_tile(images[error["index"]], error) for error in errors)


def _tile(image: np.ndarray, error: dict) -> str:
    known, sure = error.get("known"), error["p first"] >= 0.9
    first = f"{error['first']}: {html.escape(percent(error['p first']))}"
    second = f"{error['second']}: {html.escape(percent(error['p second']))}"
    return (
        f'<span class="digits-tile{" known" if known else ""}" data-digit="{error["label"]}">'
        f'<img alt="A {error["label"]}, read as {error["first"]}" src="{_png(image)}">'
        f"<span>is {error['label']} (#{error['index']}){' †' if known else ''}</span>"
        f"<span{' class=sure' if sure else ''}>{first} {second}</span></span>"
    )


def _png(image: np.ndarray) -> str:
    """A data address of one digit, dark ink on white."""
    pixels = np.round(255 * (1 - np.squeeze(np.asarray(image, float)))).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"

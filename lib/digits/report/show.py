"""What a notebook says and shows: prose with computed numbers, captioned figures, readable tables."""

import base64
import html
import io
import sys

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

_CAPTION = "font-size:0.92em;color:#4b5563;max-width:46rem;margin:0.35rem auto 0;text-align:left;caption-side:bottom"


class _Element(HTML):
    """HTML for a browser, its caption for a terminal or a text-only reader."""

    def __init__(self, data: str, text: str):
        super().__init__(data)
        self.text = text

    def __repr__(self) -> str:
        return self.text


def say(text: str) -> None:
    """Show a Markdown sentence whose numbers were just computed: ``say(f"**{errors}** errors")``."""
    display(Markdown(text))


def figure_html(png: bytes, label: str, caption: str, alt: str, live: str = "") -> str:
    """A self-contained ``<figure>``: embedded PNG, alternative text, numbered caption (Markdown's ``*`` not needed).

    live: HTML from ``exhibits`` that a screen shows in the place of the PNG.
    """
    data = base64.b64encode(png).decode()
    style = "<style>@media screen { .digits-live > img { display: none; } }</style>" if live else ""
    return (
        f'<figure class="digits-figure{" digits-live" if live else ""}" style="margin:1rem 0;text-align:center">'
        f'{style}{live}<img src="data:image/png;base64,{data}" alt="{html.escape(alt, quote=True)}" '
        f'style="max-width:100%;height:auto;background:#fff">'
        f'<figcaption style="{_CAPTION}"><strong>{label}.</strong> {html.escape(caption)}</figcaption></figure>'
    )


def figure_png(figure: Figure) -> bytes:
    """Render at the report's resolution. The software version is left out, so that equal figures are equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def show_figure(figure: Figure, label: str, caption: str, alt: str, live: str = "") -> bytes:
    """Display ``figure``, or ``live`` in its place, with its numbered caption; returns the PNG for the caller to keep."""
    png = figure_png(figure)
    display(_Element(figure_html(png, label, caption, alt, live), f"{label}. {caption}"))
    return png


def show_table(frame: pd.DataFrame, label: str, caption: str, formats: dict | None = None) -> None:
    """Display ``frame`` with a numbered caption; ``formats`` maps a column to a format string or function.

    An index without a name is not shown.
    """
    shown = frame
    if (
        frame.index.name and frame.columns.name is None
    ):  # else pandas gives the index's name a row of its own
        shown = frame.rename_axis(index=None, columns=frame.index.name)
    styler = shown.style.format(formats or {}, na_rep="–").set_table_attributes(
        'class="digits-table"'
    )
    if frame.index.name is None:
        styler = styler.hide(axis="index")
    styler = styler.set_caption(f"<strong>{label}.</strong> {html.escape(caption)}")
    styler = styler.set_table_styles([{"selector": "caption", "props": _CAPTION}])
    display(_Element(styler.to_html(), f"{label}. {caption}\n{frame.to_string()}"))


_line = None  # the display that `progress` updates until it is done


def progress(text: str, done: bool = False) -> None:
    """One line that updates itself, in JupyterLab and (through the runner) on the console.

    The executed notebook keeps only the last text. ``done`` ends the line, so that the next call starts another.
    """
    global _line
    content = _Element(f'<p class="digits-progress">{html.escape(text)}</p>', text)
    if get_ipython() is None:
        print(f"\r{text}", end="\n" if done else "", file=sys.stderr, flush=True)
    elif _line is None:
        _line = display(content, display_id=True)
    else:
        _line.update(content)
    if done:
        _line = None

"""One updating line; moves to its only caller."""

import html
import sys

from IPython import get_ipython
from IPython.display import display

from digits.report.notebook import _Element

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

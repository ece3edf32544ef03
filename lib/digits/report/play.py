"""Figures to play with: a slider over a figure that follows it, for whoever works with a notebook."""

from collections.abc import Callable

from ipywidgets import HTML, BoundedFloatText, FloatSlider, HBox, Layout, VBox
from matplotlib.figure import Figure
from traitlets import link

from digits.report import notebook as runs
from digits.report import show


def slider(
    draw: Callable[[float], tuple[Figure, str]],
    name: str,
    low: float,
    high: float,
    step: float,
    start: float,
    alt: str,
) -> VBox | None:
    """A number with its slider over the figure that ``draw`` makes of it; meant as a cell's last expression.

    draw: the value to a figure and a sentence about it, without side effects: a random generator of its own, nothing
    recorded. alt: what the figure shows, for who does not see it. Under the runner this is None and nothing is drawn, so
    that a report shows only what stands beside it.
    """
    if runs.runner():
        return None
    within = {"min": low, "max": high, "step": step, "value": min(max(start, low), high)}
    tip = f"{name}, from {low:g} to {high:g}"
    number = BoundedFloatText(
        **within,
        description=name,
        tooltip=tip,
        style={"description_width": "initial"},
        layout=Layout(width="auto", flex="0 0 auto"),
    )  # a screen reader knows it by its name
    handle = FloatSlider(
        **within, readout=False, tooltip=tip, layout=Layout(flex="1 1 0"), continuous_update=False
    )  # drawn when the handle rests: a figure takes longer than a move
    link((handle, "value"), (number, "value"))
    picture = HTML()

    def follow(_change: object = None) -> None:
        figure, sentence = draw(number.value)
        picture.value = show.figure_html(
            show.figure_png(figure), f"{name} {number.value:g}", sentence, alt
        )

    number.observe(follow, "value")
    follow()
    return VBox([HBox([number, handle], layout=Layout(max_width="46rem")), picture])

"""Every figure of the report. A plot function takes ``ax`` (or a figure), draws, returns it, and never shows it."""

from digits.plots.style import ACCENT, BAD, GOOD, INK_CMAP, MUTED, PALETTE, grid, ink, use_style

__all__ = ["ACCENT", "BAD", "GOOD", "INK_CMAP", "MUTED", "PALETTE", "grid", "ink", "use_style"]

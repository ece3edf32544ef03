"""What notebooks record and show, figures, and the executed notebooks as one HTML file."""

from digits.report.notebook import Run, aims, dataset, headlines, open_run, say, slider

__all__ = ["Run", "aims", "dataset", "headlines", "open_run", "say", "slider"]

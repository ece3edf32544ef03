"""What notebooks record and show, figures, and the executed notebooks as one HTML file."""

from digits.report.notebook import Run, dataset, open_run, say, slider

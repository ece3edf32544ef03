"""What a notebook calls to show and record, the figures, and the executed notebooks as one HTML file."""

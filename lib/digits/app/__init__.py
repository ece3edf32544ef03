"""The drawing page: pad, page, feedback, server."""

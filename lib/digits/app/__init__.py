"""The drawing page: pad, page, feedback, server."""

from pathlib import Path

STATIC = Path(__file__).parent / "static"
SCRIPT = "".join((STATIC / name).read_text(encoding="utf-8") for name in ("view.js", "app.js"))


def __getattr__(name: str) -> object:
    """``App``, loaded when asked for: the server, which needs another part of this room, never
    does.
    """
    if name == "App":
        from digits.app.app import App

        return App
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

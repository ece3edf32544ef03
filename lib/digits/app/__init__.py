"""The drawing page: pad, page, feedback, server."""


def __getattr__(name: str) -> object:
    """``App``, loaded when it is asked for: the server, which needs another part of this room, never does."""
    if name == "App":
        from digits.app.app import App

        return App
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

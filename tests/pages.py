"""HTML files, as tests look at them."""

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a test wants to know about an HTML file: its ids, its links, and what it would load from elsewhere."""

    def __init__(self, html: str):
        super().__init__()
        self.ids, self.links, self.loads, self.images = [], [], [], []
        self.loads += [
            url
            for url in re.findall(r"url\(\s*['\"]?([^'\")]+)", html)
            if not url.startswith("data:")
        ]
        self.loads += re.findall(r"@import[^;]+", html)
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag's id, link, image and every address that a browser would fetch for it."""
        found = dict(attrs)
        if "id" in found:
            self.ids.append(found["id"])
        if tag == "a":
            self.links.append(found.get("href") or "")
        if tag == "img":
            self.images.append(found)
        fetched = [
            found.get(name)
            for name in ("src", "srcset", "poster", "data", "xlink:href", "background")
        ]
        fetched += [found.get("href")] if tag in ("link", "use", "image", "base") else []
        self.loads += [
            f"<{tag} {url[:80]}>" for url in fetched if url and not url.startswith(("data:", "#"))
        ]

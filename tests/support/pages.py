"""Reading the pages that the package writes, as strictly as a browser is lenient."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Reader(HTMLParser):
    """Elements with their attributes, text, and the rows of tables; a tag not closed in its place is an error."""

    def __init__(self, source: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.rows: list[list[str]] = []
        self.text, self._open = "", []
        self.feed(source)
        self.close()
        assert not self._open
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag == "br":
            self.handle_data(" ")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag
        self.handle_data(" ")  # as between the cells of a table

    def handle_data(self, data):
        self.text += data
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data

    def all(self, tag: str, **attributes: str) -> list[dict]:
        return [found for name, found in self.elements if name == tag and attributes.items() <= found.items()]


def check_self_contained(source: str) -> Reader:
    """Nothing is loaded and nothing runs: every source lies in the file."""
    page = Reader(source)
    for tag, attributes in page.elements:
        assert tag not in ("script", "iframe", "object", "embed", "base")
        for name in ("src", "srcset", "data", "background", "poster"):
            assert attributes.get(name, "data:").startswith("data:")
        target = attributes.get("href", "#")
        assert target.startswith("#" if tag == "a" else "data:" if tag == "link" else "#")
        assert not any(name.startswith("on") for name in attributes)
    styles = "".join(re.findall(r"<style>(.*?)</style>", source, re.S)) + "".join(re.findall(r'style="(.*?)"', source))
    assert "url(" not in styles
    assert "@import" not in styles
    return page


def decode(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def in_browser(source: str, script: str, folder: Path) -> dict:
    """What the script's function returns when a real browser has loaded the page; skips where there is none."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    runner = f"<script>onload = () => {{ document.title = JSON.stringify(({script})()) }}</script></body>"
    (folder / "page.html").write_text(source.replace("</body>", runner))
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--disable-component-update", "--disable-sync", "--disable-quic", "--dump-dom", "--window-size=500,900"]
    command = [browser, *flags, f"--user-data-dir={folder / 'profile'}", f"file://{folder / 'page.html'}"]
    loaded = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return json.loads(html.unescape(re.search("<title>(.*?)</title>", loaded.stdout)[1]))

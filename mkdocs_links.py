"""A hook of MkDocs: names of the API become links to it on every page, and its entries lead to the gallery."""

import re
from pathlib import Path

INIT = Path(__file__).parent / "kornia_patchaug/__init__.py"
NAMES = re.findall(r'^    "(\w+)",$', INIT.read_text("utf-8"), flags=re.M)  # of __all__, without importing torch
# What is left alone comes first: links, headings and blocks of code.
PATTERN = re.compile(rf"<(a|h[1-6]|pre)\b.*?</\1>|<code>(?:kp\.)?({'|'.join(NAMES)})(?:\(\))?</code>", flags=re.S)
ENTRY = re.compile(rf'<h3 id="kornia_patchaug\.({"|".join(NAMES)})".*?</h3>', flags=re.S)


def on_page_content(html: str, page, config, files) -> str:
    here = page.url

    def link(match: re.Match) -> str:
        name = match[2]
        target = f"#kornia_patchaug.{name}" if here == "api.html" else f"api.html#kornia_patchaug.{name}"
        return f'<a href="{target}">{match[0]}</a>' if name else match[0]

    html = PATTERN.sub(link, html)
    return ENTRY.sub(r'\g<0><p><a href="gallery.html#\1">In the gallery</a></p>', html) if here == "api.html" else html

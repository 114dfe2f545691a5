"""A hook of MkDocs: the package's public names, where a page has them as code, become links to the API."""

import re
from pathlib import Path

INIT = Path(__file__).parent / "kornia_patchaug/__init__.py"
NAMES = re.findall(r'^    "(\w+)",$', INIT.read_text(), flags=re.M)  # of __all__, without importing torch
# What is left alone comes first: links, headings and blocks of code.
PATTERN = re.compile(rf"<(a|h[1-6]|pre)\b.*?</\1>|<code>(?:kp\.)?({'|'.join(NAMES)})(?:\(\))?</code>", flags=re.S)


def on_page_content(html: str, page, config, files) -> str:
    here = page.url

    def link(match: re.Match) -> str:
        name = match[2]
        target = f"#kornia_patchaug.{name}" if here == "api.html" else f"api.html#kornia_patchaug.{name}"
        return f'<a href="{target}">{match[0]}</a>' if name else match[0]

    return PATTERN.sub(link, html)

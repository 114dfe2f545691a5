"""An entry of docs/api.md in Markdown, from the signature and docstring of a public name."""

from __future__ import annotations

import inspect
import re
import textwrap
from enum import Enum
from typing import Any

import kornia_patchaug

LINE = 88  # of a signature; a longer one has a line for each argument
TITLES = {"Args": "Arguments"}  # others are as in the docstring
SECTION = re.compile(r"^(\w+):\n((?:    .*\n|\n)+)", flags=re.M)
ITEM = re.compile(r"^([\w*]+(?:, \w+)*): ", flags=re.M)


def entry(path: str, members: list[str]) -> str:
    """The entry of ``path``, as in ``kornia_patchaug.affine_patches``, and of those ``members`` of it."""
    name = path.removeprefix("kornia_patchaug.")
    found = getattr(kornia_patchaug, name)
    parts = [f'<a id="{path}"></a>', f"### {name}", f"[In the gallery](gallery.md#{name})", *_described(found, name)]
    for member in members:
        parts += [f"#### {name}.{member}", *_described(getattr(found, member), member)]
    return "\n\n".join(parts)


def _described(found: Any, name: str) -> list[str]:
    text = inspect.getdoc(found)
    assert text, f"{name} has no docstring"
    first = SECTION.search(text + "\n")
    parts = [f"```py\n{_signature(found, name)}\n```", text[: first.start() if first else None].strip()]
    for title, body in SECTION.findall(text + "\n"):
        parts += [f"**{TITLES.get(title, title)}**", _section(title, textwrap.dedent(body).strip())]
    return parts


def _section(title: str, body: str) -> str:
    if title == "Examples":
        return f"```pycon\n{body}\n```"
    if title == "Returns":
        return body
    return ITEM.sub(r"- `\1`: ", re.sub(r"^    (?=\S)", "  ", body, flags=re.M))


def _signature(found: Any, name: str) -> str:
    signature = inspect.signature(found)
    parts, marked = [], False
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        marked |= parameter.kind is parameter.VAR_POSITIONAL
        if parameter.kind is parameter.KEYWORD_ONLY and not marked:
            parts.append("*")
            marked = True
        parts.append(_parameter(parameter))
    returns = "" if inspect.isclass(found) else f" -> {signature.return_annotation}"
    line = f"{name}({', '.join(parts)}){returns}"
    return line if len(line) <= LINE else f"{name}(\n    " + ",\n    ".join(parts) + f",\n){returns}"


def _parameter(parameter: inspect.Parameter) -> str:
    stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
    text = f"{stars}{parameter.name}: {parameter.annotation}"
    if parameter.default is parameter.empty:
        return text
    return f"{text} = {parameter.default if isinstance(parameter.default, Enum) else repr(parameter.default)}"

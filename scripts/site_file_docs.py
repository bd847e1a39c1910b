#!/usr/bin/env python
"""Write docs/site-file.md from the settings models, so that the page cannot lag behind the code.

.venv/bin/python scripts/site_file_docs.py            write the page
.venv/bin/python scripts/site_file_docs.py --check    exit with 1 if it is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from orveil.pipeline.settings import Camera, SiteSettings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "site-file.md"
INTERNAL = "set by the pipeline"
"""Fields whose description begins so are parameters of a stage that no site file gives."""
SIGNS = {
    "ge": ">=", "gt": ">", "le": "<=", "lt": "<", "min_length": "letters >=", "max_length": "letters <=",
}  # fmt: skip
HEAD = """# The site file

<!-- Written by scripts/site_file_docs.py from pipeline/settings.py: edit there. -->

One TOML file describes a site and a run. Unknown keys and wrong types are refused before anything starts.
Relative paths start at the folder of the site file. A first file needs two lines:

```toml
name = "theatre 3"
videos = "recordings/monday"
```

`configs/site.example.toml` shows a longer one. Everything below has a default unless it says *required*.
Nothing under `[run]` changes a result; every other key is part of the identity of what it influences, so that
changing it redoes exactly that part (`orveil explain SITE.toml` says which).
"""


def page() -> str:
    """The whole page as Markdown."""
    parts = [HEAD, "## Top level\n", _table(_plain_fields(SiteSettings))]
    parts += _section("`[[camera]]`, once for each camera", Camera)
    for name, model in _tables(SiteSettings):
        parts += _section(f"`[{name}]`", model)
    return "\n".join(parts).rstrip() + "\n"


def _section(title: str, model: type[BaseModel]) -> list[str]:
    """Heading, docstring and table of one model."""
    return [f"## {title}\n", f"{(model.__doc__ or '').strip()}\n", _table(model.model_fields.items())]


def _plain_fields(model: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if not _is_table(field) and name != "camera":
            yield name, field


def _tables(model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in model.model_fields.items():
        if _is_table(field):
            yield name, field.annotation  # type: ignore[misc]


def _is_table(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _table(fields: Any) -> str:
    rows = ["| key | type | default | range | meaning |", "|---|---|---|---|---|"]
    for name, field in fields:
        about = field.description or ""
        if about.startswith(INTERNAL):
            continue
        cells = (f"`{name}`", _type(field.annotation), _default(field), _range(field), about)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return ", ".join(f'`"{value}"`' for value in get_args(kind))
    if get_origin(kind) is Union or "UnionType" in type(kind).__name__:
        return " or ".join(_type(part) for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is not None:
        return "list of " + _type(get_args(kind)[0])
    return {str: "text", Path: "path", float: "number", int: "whole number", bool: "true or false"}[kind]


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "*required*"
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str | Path) else f"`{value}`"


def _range(field: FieldInfo) -> str:
    found = [
        f"{sign} {getattr(rule, name):g}"
        for rule in field.metadata
        for name, sign in SIGNS.items()
        if getattr(rule, name, None) is not None
    ]
    found += [f"`{rule.pattern}`" for rule in field.metadata if getattr(rule, "pattern", None)]
    return ", ".join(found)


def main(arguments: list[str]) -> int:
    """Write or check the page."""
    text = page()
    if "--check" in arguments:
        return int(not PAGE.is_file() or PAGE.read_text("utf-8") != text)
    PAGE.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

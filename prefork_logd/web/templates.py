"""Draws pages from the templates in the folder templates/, and knows the address of the static files they load.

Does not know what a page is for. Every value is escaped.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent
STATIC = _HERE / "static"


@cache
def static_path() -> str:
    """Return the address of the static files, which names their content: another content has another address."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"/static/{digest.hexdigest()[:16]}"


def render(template: str, **values: Any) -> str:
    """Return a page. Without `views` its frame has no navigation, without `role` no reader (templates/base.html)."""
    return _environment().get_template(template).render({"views": (), "role": "", **values, "static": static_path()})


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(_HERE / "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)

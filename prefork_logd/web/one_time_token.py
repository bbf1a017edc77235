"""Lets in who can read the state directory: a token that is printed, works once, and is then replaced.

Does not know sessions or requests.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefork_logd.web.page_files import PageFiles

FILE = "token"
_BYTES = 32


def current(files: PageFiles) -> str:
    """Return the token that works now; it is made if there is none. Raises OSError."""
    found = files.read(FILE).decode("ascii", "replace").strip()
    if found:
        return found
    files.write_new(FILE, _new())
    return files.read(FILE).decode("ascii", "replace").strip()


def take(files: PageFiles, given: str) -> bool:
    """Return whether `given` is the token, and replace it if it is, so that it works once. Raises OSError."""
    found = files.read(FILE).strip()
    if not found or not secrets.compare_digest(found, given.encode("utf-8", "replace")):
        return False
    files.write(FILE, _new())
    return True


def _new() -> bytes:
    return f"{secrets.token_urlsafe(_BYTES)}\n".encode()

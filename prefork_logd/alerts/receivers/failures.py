"""Defines how a receiver fails, and reads the secrets that it needs.

Owns the bounds of texts from outside. Does not know a protocol.
"""

from __future__ import annotations

import os
from pathlib import Path

from prefork_logd.errors import LogdError, describe_refusal

MOST_ANSWER_BYTES = 4_096
"""Bytes of an answer, or of the output of a command, that are read."""
MOST_ANSWER = 200
"""Characters of it that are kept."""
MOST_SECRET_BYTES = 4_096


class SendError(LogdError):
    """A notice could not be sent. The text says why, without secrets."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0, is_refusal: bool = False) -> None:
        """`is_refusal`: the receiver works, and does not want this notice as it is."""
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_refusal = is_refusal


def shown(data: bytes) -> str:
    """Return the beginning of what a receiver has answered, in one line of printable characters."""
    text = data.decode("utf-8", "replace")
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:MOST_ANSWER]


def read_secret(path: str, variable: str) -> str:
    """Return a secret from its file or variable of the environment; empty if neither is named. Raises SendError."""
    if variable:
        found = os.environ.get(variable, "")
        if not found or not found.isprintable():
            raise SendError(f"the environment of the collector has no secret in one line as {variable}")
        return found
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            found = file.read(MOST_SECRET_BYTES).decode().strip()
    except OSError as error:
        raise SendError(f"{path}: cannot read it: {describe_refusal(error)}") from error
    except UnicodeDecodeError:
        raise SendError(f"{path}: is not UTF-8") from None
    if not found or not found.isprintable():
        raise SendError(f"{path}: holds no secret in one line")
    return found

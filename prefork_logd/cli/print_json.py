"""Prints values as lines of JSON that may be shown on a terminal.

Does not know where the values come from. What clients have sent may have characters that control a terminal.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from prefork_logd.records.render import escape_json


def json_line(value: Any) -> str:
    """Return a structure of msgspec as JSON, with characters that control a terminal escaped, as in stored lines."""
    return escape_json(msgspec.json.encode(value)).decode()


def spaced_json_line(value: Any) -> str:
    """Return a plain value as JSON with blanks after commas and colons, escaped likewise."""
    return escape_json(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace")).decode()

"""Compiles regular expressions of RE2, which take linear time.

Owns the choice of the library: google-re2, else DuckDB, which has the same engine and takes much longer for each text.
Does not know records. Python's own `re` would need exponential time for some expressions.
"""

from __future__ import annotations

import functools
import threading
from typing import Any, Protocol

MOST_MEMORY = 1 << 20
"""Bytes for a compiled expression."""


class Expression(Protocol):
    """A compiled expression."""

    def search(self, text: bytes, /) -> object:
        """Return a true value if the expression matches a part of a text in UTF-8."""


@functools.lru_cache(maxsize=64)
def compile_expression(text: str) -> Expression:
    """Return a compiled expression. Raises ValueError with a sentence for the user."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid(text, "it is not valid Unicode") from None
    try:
        return _compile_with_re2(text)
    except ImportError:
        return _InDuckDB(text)


def _compile_with_re2(text: str) -> Expression:
    import re2  # it has no wheels for musl, and few queries need it

    options = re2.Options()
    options.log_errors = False
    options.max_mem = MOST_MEMORY
    try:
        compiled: Expression = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0].decode(errors="replace") if error.args else "it cannot be compiled"
        raise _invalid(text, reason) from None
    return compiled


class _InDuckDB:
    """An expression that DuckDB evaluates."""

    def __init__(self, text: str) -> None:
        try:
            import duckdb
        except ImportError:
            raise ValueError('regular expressions need a library: pip install "prefork-logd[regex]"') from None
        self._expression = text
        self._lock = threading.Lock()
        self._connection: Any = duckdb.connect(":memory:", config={"threads": 1})
        try:
            self.search(b"")
        except duckdb.Error as error:
            raise _invalid(text, str(error).partition(": ")[2] or str(error)) from None

    def search(self, text: bytes) -> object:
        with self._lock:
            found = self._connection.execute(
                "SELECT regexp_matches($1::VARCHAR, $2)", [text.decode(errors="replace"), self._expression]
            ).fetchone()
        return found[0] or None


def _invalid(text: str, reason: str) -> ValueError:
    return ValueError(f"{text!r} is not a regular expression of RE2: {reason}")

"""Formats stored records as text, JSON, CSV or a table, for `query` and `tail`.

Does not know where the lines come from.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

from prefork_logd.cli.level_styles import style_of
from prefork_logd.config.outputs import DEFAULT_TEMPLATE
from prefork_logd.records.csv_lines import csv_lines
from prefork_logd.records.render import TextTemplate, asctime, escape_text
from prefork_logd.records.stored import read_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prefork_logd.query.search import Found

FORMATS = ("text", "json", "csv", "table")
_WIDTHS = (("time", 23), ("level", 8), ("logger", 24))


def format_for_stdout(form: str, lines: Iterable[bytes]) -> Iterator[bytes]:
    """Yield stored lines in a form of FORMATS, as wide as the terminal, in colours if standard output is one."""
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return format_lines(form, lines, shutil.get_terminal_size((160, 24)).columns, is_coloured)


def format_with_ids(form: str, found: Iterable[Found]) -> Iterator[bytes]:
    """Yield records with their ids, as text or JSON."""
    template = TextTemplate(DEFAULT_TEMPLATE)
    for one in found:
        if form == "json":
            yield b'{"id":"%s",%s' % (str(one.id).encode(), one.line[1:])
        else:
            yield b"%s %s" % (str(one.id).encode(), template.render(read_record(one.line)))


def format_lines(form: str, lines: Iterable[bytes], width: int, coloured: bool) -> Iterator[bytes]:
    """Yield stored lines in a form of FORMATS; a table is `width` characters wide."""
    if form == "json":
        return iter(lines)
    if form == "csv":
        return csv_lines(lines)
    return _table(lines, width, coloured) if form == "table" else _text(lines, coloured)


def _text(lines: Iterable[bytes], coloured: bool) -> Iterator[bytes]:
    template = TextTemplate(DEFAULT_TEMPLATE)
    for line in lines:
        record = read_record(line)
        yield _painted(template.render(record), record.levelno, coloured)


def _painted(line: bytes, levelno: int | None, coloured: bool) -> bytes:
    style = style_of(levelno or 0)
    if not coloured or style.levelno == 20:
        return line
    code = {"bold red": b"1;31", "red": b"31", "yellow": b"33"}.get(style.style, b"2")
    return b"\x1b[%bm%b\x1b[0m\n" % (code, line.rstrip(b"\n"))


def _table(lines: Iterable[bytes], width: int, coloured: bool) -> Iterator[bytes]:
    rest = max(20, width - sum(size + 2 for _, size in _WIDTHS))
    head = "  ".join([*(f"{name:<{size}}" for name, size in _WIDTHS), "message"])
    yield f"{head}\n{'  '.join('─' * size for size in (*(size for _, size in _WIDTHS), rest))}\n".encode()
    for line in lines:
        record = read_record(line)
        level = record.levelname or str(record.levelno or "")
        cells = (asctime(record.created), _clipped(level, 8), _clipped(record.name or "", 24))
        padded = "  ".join(f"{cell:<{size}}" for cell, (_, size) in zip(cells, _WIDTHS, strict=True))
        yield _painted(
            f"{padded}  {_clipped(record.message or '', rest)}".rstrip().encode() + b"\n", record.levelno, coloured
        )


def _clipped(text: str, width: int) -> str:
    text = escape_text(text.partition("\n")[0][: width + 1])
    return text if len(text) <= width else f"{text[: width - 1]}…"

"""What `query` prints: records as lines of JSON or text, CSV or a table, and bars over time.

Owns looks alone. Knows the stored lines it is given, not where they come from.
"""

from __future__ import annotations

import csv
import io
import itertools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.console import Console
from rich.text import Text

from prefork_logd.records.render import TextTemplate, asctime, escape_text
from prefork_logd.records.stored import FIELDS, read_record, read_row
from prefork_logd.settings import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from prefork_logd.stores.searching import Bar

FORMATS = ("text", "json", "csv", "table")
_WIDTHS = (("time", 23), ("level", 8), ("logger", 24))


class _Look(NamedTuple):
    """How a level looks: from this number on, in this colour, with this block in a bar."""

    levelno: int
    name: str
    style: str
    block: str


_LOOKS = (
    _Look(50, "critical", "bold red", "█"),
    _Look(40, "error", "red", "▓"),
    _Look(30, "warning", "yellow", "▒"),
    _Look(20, "info", "green", "░"),
    _Look(-(1 << 63), "debug", "blue", "·"),
)
_SLOTS_S = (0.001, 0.01, 0.1, 1, 5, 10, 30, 60, 300, 600, 1800, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400, 7 * 86_400)
MOST_SLOTS = 60
FEW_SLOTS = 10
"""With fewer records than slots they are longer, but there are so many."""
MOST_EMPTY = 3
"""Slots without a record that have a line each."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a cell that begins so for a formula, and runs what a client has logged."""


def lines_as(form: str, lines: Iterable[bytes], width: int, coloured: bool) -> Iterator[bytes]:
    """Yield what is printed of stored lines in a form of FORMATS; a table is `width` characters wide."""
    if form == "json":
        return iter(lines)
    if form == "csv":
        return _csv(lines)
    return _table(lines, width, coloured) if form == "table" else _text(lines, coloured)


def _text(lines: Iterable[bytes], coloured: bool) -> Iterator[bytes]:
    template = TextTemplate(DEFAULT_TEMPLATE)
    for line in lines:
        record = read_record(line)
        yield _painted(template.render(record), record.levelno, coloured)


def _painted(line: bytes, levelno: int | None, coloured: bool) -> bytes:
    look = _look(levelno or 0)
    if not coloured or look.levelno == 20:
        return line
    code = {"bold red": b"1;31", "red": b"31", "yellow": b"33"}.get(look.style, b"2")
    return b"\x1b[%bm%b\x1b[0m\n" % (code, line.rstrip(b"\n"))


def _csv(lines: Iterable[bytes]) -> Iterator[bytes]:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow(FIELDS)
    for line in lines:
        row = read_row(line)
        writer.writerow([_cell(getattr(row, name)) for name in FIELDS])
        yield buffer.getvalue().encode("utf-8", "backslashreplace")
        buffer.seek(0)
        buffer.truncate()
    if buffer.tell():
        yield buffer.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, (int, float)):
        return value
    text = value if isinstance(value, str) else bytes(value).decode()
    if text.startswith(_FORMULA):
        text = f"'{text}"
    # Newlines and tabs are within quotes; what a terminal or a spreadsheet acts upon is not passed on.
    return escape_text(text).replace("\n\t", "\n") if not text.isprintable() else text


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


def slots_for(start: float, stop: float, most: int = MOST_SLOTS) -> tuple[float, float, int]:
    """Return (start, length in seconds, number) of round slots that cover a range of time."""
    length = next((size for size in _SLOTS_S if (stop - start) / size <= most), None)
    if length is None:
        length = _SLOTS_S[-1] * -(-(stop - start) // (_SLOTS_S[-1] * most))
    # Days begin at local midnight, and so do the hours of time zones that are half an hour off.
    offset = time.localtime(min(max(start, 0), 1e11)).tm_gmtoff
    first = (start + offset) // length * length - offset
    return first, length, max(1, int(-(-(stop - first) // length)))


def look_closer(
    histogram: Callable[[float, float, int], list[Bar]], start: float, stop: float
) -> tuple[list[Bar], float, float, int]:
    """Return the bars of a range of time, and start, length and number of slots, from the first bar to the last one.

    `histogram` is asked for finer and finer slots, until they are as fine as the number of records makes sense of.
    """
    begin, length, slots = slots_for(start, stop)
    bars = histogram(begin, length, slots)
    while bars:
        first, last = min(bar.slot for bar in bars), max(bar.slot for bar in bars)
        most = min(MOST_SLOTS, max(FEW_SLOTS, sum(bar.count for bar in bars)))
        start, stop = max(start, begin + first * length), min(stop, begin + (last + 1) * length)
        finer = slots_for(start, stop, most)
        # Round slots cover a range of `most` of them with one more.
        if finer[1] >= length and last - first <= most:
            return (
                [bar._replace(slot=bar.slot - first) for bar in bars],
                begin + first * length,
                length,
                last - first + 1,
            )
        begin, length, slots = finer
        bars = histogram(begin, length, slots)
    return [], begin, length, 0


def show_histogram(bars: Iterable[Bar], start: float, slot_s: float, slots: int) -> None:
    """Print a bar for each slot of time, made of the levels."""
    counts: dict[int, dict[str, int]] = {}
    for slot, levelno, count in bars:
        levels = counts.setdefault(slot, {})
        name = _look(levelno).name
        levels[name] = levels.get(name, 0) + count
    console = Console(highlight=False, soft_wrap=True)
    most = max((sum(levels.values()) for levels in counts.values()), default=0)
    digits = len(f"{most:,}")
    form = "%Y-%m-%d" if slot_s >= 86_400 else "%Y-%m-%d %H:%M" if slot_s >= 60 else "%Y-%m-%d %H:%M:%S"
    room = max(10, console.width - len(time.strftime(form)) - digits - 6)
    filled = sorted(counts)
    for slot, following in itertools.pairwise([*filled, slots]):
        # A few empty slots are shown as what they are; of more, the number says enough.
        gap = following - slot - 1
        for each in range(slot, following if gap <= MOST_EMPTY else slot + 1):
            levels = counts.get(each, {})
            stamp = time.strftime(form, time.localtime(start + each * slot_s))
            if slot_s < 1:
                stamp += f"{(start + each * slot_s) % 1:.3f}"[1:]
            console.print(Text(f"{stamp}  {sum(levels.values()):>{digits},}  ") + _bar(levels, room, most))
        if gap > MOST_EMPTY:
            console.print(f"{'':>{len(stamp)}}  {0:>{digits}}  {gap} times")
    used = [look for look in _LOOKS[::-1] if any(look.name in levels for levels in counts.values())]
    legend = Text("   ").join(Text(f"{look.block} {look.name}", style=look.style) for look in used)
    console.print(Text(f"\n{sum(sum(levels.values()) for levels in counts.values()):,} records  "), legend)


def _bar(levels: dict[str, int], room: int, most: int) -> Text:
    bar = Text()
    seen = drawn = 0
    for look in _LOOKS[::-1]:
        seen += levels.get(look.name, 0)
        end = max(drawn, round(seen * room / most)) if most else 0
        if levels.get(look.name) and end == drawn and look.levelno >= 40:
            end += 1  # a single error is to be seen
        bar.append(look.block * (end - drawn), style=look.style)
        drawn = end
    return bar


def _look(levelno: int) -> _Look:
    return next(look for look in _LOOKS if levelno >= look.levelno)

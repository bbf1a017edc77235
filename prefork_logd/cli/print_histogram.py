"""Prints bars over time, a line for each slot, coloured by level."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from prefork_logd.cli.level_styles import LEVEL_STYLES, style_of
from prefork_logd.config.values import format_count

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefork_logd.query.search import Bar

MOST_EMPTY = 3
"""Up to this many consecutive slots without a record have a line each."""


def print_histogram(bars: Iterable[Bar], start: float, slot_s: float, slots: int) -> None:
    """Print a bar for each slot of time, with a part for each level."""
    counts: dict[int, dict[str, int]] = {}
    for slot, levelno, count in bars:
        levels = counts.setdefault(slot, {})
        name = style_of(levelno).name
        levels[name] = levels.get(name, 0) + count
    console = Console(highlight=False, soft_wrap=True)
    most = max((sum(levels.values()) for levels in counts.values()), default=0)
    digits = len(f"{most:,}")
    form = "%Y-%m-%d" if slot_s >= 86_400 else "%Y-%m-%d %H:%M" if slot_s >= 60 else "%Y-%m-%d %H:%M:%S"
    room = max(10, console.width - len(time.strftime(form)) - digits - 6)
    filled = sorted(counts)
    for slot, following in itertools.pairwise([*filled, slots]):
        # A few empty slots have a line each; more of them share one with their number.
        gap = following - slot - 1
        for each in range(slot, following if gap <= MOST_EMPTY else slot + 1):
            levels = counts.get(each, {})
            stamp = time.strftime(form, time.localtime(start + each * slot_s))
            if slot_s < 1:
                stamp += f"{(start + each * slot_s) % 1:.3f}"[1:]
            line = Text(f"{stamp}  {sum(levels.values()):>{digits},}  ") + _bar(levels, room, most)
            line.rstrip()
            console.print(line)
        if gap > MOST_EMPTY:
            console.print(f"{'':>{len(stamp)}}  {0:>{digits}}  {format_count(gap, 'time')}")
    _print_legend(console, counts)


def _print_legend(console: Console, counts: dict[int, dict[str, int]]) -> None:
    used = [style for style in LEVEL_STYLES[::-1] if any(style.name in levels for levels in counts.values())]
    legend = Text("   ").join(Text(f"{style.block} {style.name}", style=style.style) for style in used)
    console.print(
        Text(f"\n{format_count(sum(sum(levels.values()) for levels in counts.values()), 'record')}  "), legend
    )


def _bar(levels: dict[str, int], room: int, most: int) -> Text:
    bar = Text()
    seen = drawn = 0
    for style in LEVEL_STYLES[::-1]:
        seen += levels.get(style.name, 0)
        end = max(drawn, round(seen * room / most)) if most else 0
        if levels.get(style.name) and end == drawn and style.levelno >= 40:
            end += 1  # a single error must be visible
        bar.append(style.block * (end - drawn), style=style.style)
        drawn = end
    return bar

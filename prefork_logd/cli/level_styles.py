"""Defines the look of each level on a terminal: its colour, and its block in a bar."""

from __future__ import annotations

from typing import NamedTuple


class LevelStyle(NamedTuple):
    """The look of the levels from one number on."""

    levelno: int
    """The lowest of these levels."""
    name: str
    style: str
    """A style of rich."""
    block: str
    """The character that bars are made of."""


LEVEL_STYLES = (
    LevelStyle(50, "critical", "bold red", "█"),
    LevelStyle(40, "error", "red", "▓"),
    LevelStyle(30, "warning", "yellow", "▒"),
    LevelStyle(20, "info", "green", "░"),
    LevelStyle(-(1 << 63), "debug", "blue", "·"),
)
"""From the highest level down."""


def style_of(levelno: int) -> LevelStyle:
    """Return the look of a level."""
    return next(style for style in LEVEL_STYLES if levelno >= style.levelno)

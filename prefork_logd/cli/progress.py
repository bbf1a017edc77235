"""Draws progress bars on standard error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Task


class _Bytes(DownloadColumn):
    """The number of bytes done; empty for a task without `counted`."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields.get("counted", True) else Text("")


class _Speed(TransferSpeedColumn):
    """The number of bytes a second; empty for a task without `counted`."""

    def render(self, task: Task) -> Text:
        return super().render(task) if task.fields.get("counted", True) else Text("")


def make_progress() -> Progress:
    """Return a progress bar on standard error; without a terminal, only the lines printed above the bar are shown.

    The total of a task is in bytes, unless it is added with `counted=False`.
    """
    console = Console(stderr=True, highlight=False)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _Bytes(),
        _Speed(),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )

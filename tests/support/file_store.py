"""Stores JSON lines for tests of the shipper, with length and position in an atomically replaced file.

Files in its directory make it fail:

    fail            the store is down
    fail-midway     lines are written, and the position is not
    hang            a write waits until this file is gone

A line that holds "poison" is refused.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefork_logd.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.stores.base import Block


class FileStore:
    """The store."""

    def __init__(self, directory: str) -> None:
        self._directory = Path(directory)
        self._journal = ""
        self._state: dict[str, Any] = {}

    def open(self, journal: str) -> int:
        """Cut off uncommitted lines, and return the position."""
        self._check("fail")
        self._directory.mkdir(exist_ok=True)
        self._journal = journal
        path = self._directory / "position"
        self._state = json.loads(path.read_text()) if path.exists() else {"length": 0, "next": {}}
        records = self._directory / "records"
        records.touch()
        with records.open("r+b") as file:
            file.truncate(self._state["length"])
        return int(self._state["next"].get(journal, 0))

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:
        """Append the new lines, then store the position."""
        self._check("fail")
        while (self._directory / "hang").exists():
            time.sleep(0.01)
        position = self._state["next"].get(self._journal, 0)
        length = self._state["length"]
        with (self._directory / "records").open("ab") as file:
            for block in blocks:
                lines = block.lines.splitlines(keepends=True)
                assert len(lines) == block.count
                if block.runs:
                    assert sum(run.count for run in block.runs) == block.count
                for number, line in enumerate(lines, block.first):
                    if number < position:
                        continue
                    if b"poison" in line:
                        refuse(number, line, "it holds poison")
                    else:
                        length += file.write(line)
                position = max(position, block.first + block.count)
        self._check("fail-midway")
        state = {"length": length, "next": {**self._state["next"], self._journal: position}}
        new = self._directory / "position.new"
        new.write_text(json.dumps(state))
        new.rename(self._directory / "position")
        self._state = state

    def _check(self, name: str) -> None:
        if (self._directory / name).exists():
            raise StoreError(f"it was told to {name}")

    def maintain(self) -> float:
        """Do nothing."""
        return 3600.0

    def close(self) -> None:
        """Release nothing."""

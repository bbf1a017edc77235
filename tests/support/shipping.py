"""Sends numbered records to a collector, and looks at the FileStore that they are shipped to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.harness import Collector, frames, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STORE = """
[[store]]
name = "{name}"
type = "custom"
factory = "tests.support.file_store:FileStore"
options = {{ directory = "{directory}" }}
batch_time = "10ms"
"""
SMALL = "[limits]\njournal_segment_bytes = 65_536\njournal_bytes = 1_048_576\n"
"""Limits of a small journal."""


class Place:
    """The directory of one FileStore."""

    def __init__(self, directory: Path, name: str) -> None:
        self.path = directory / name
        self.path.mkdir()
        self.toml = STORE.format(name=name, directory=self.path)

    def messages(self) -> list[str]:
        """Return what is committed."""
        position = self.path / "position"
        if not position.exists():
            return []
        length = json.loads(position.read_text())["length"]
        lines = (self.path / "records").read_bytes()[:length].splitlines()
        return [json.loads(line)["message"] for line in lines]

    def wait_for(self, count: int) -> list[str]:
        """Wait until it has so many records, and return their messages."""
        return wait_for(lambda: len(self.messages()) >= count and self.messages(), f"{count} in {self.path.name}")

    def order(self, what: str) -> Callable[[], None]:
        """Let the store do what it is told, until the function returned is called."""
        (self.path / what).touch()
        return (self.path / what).unlink


def send(collector: Collector, start: int, count: int, **rest: Any) -> None:
    """Send numbered records over a connection of their own."""
    with collector.connect() as sock:
        sock.sendall(frames((f"m{number}" for number in range(start, start + count)), **rest))


def expected(count: int) -> list[str]:
    """Return the messages of so many numbered records."""
    return [f"m{number}" for number in range(count)]


def segments(collector: Collector) -> list[Path]:
    """Return the record segments there are."""
    return sorted((collector.state_dir / "journal").glob("records-*.segment"))

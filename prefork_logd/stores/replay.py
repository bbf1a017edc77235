"""Sends dead letters again to the store that has refused them.

Owns the steps of a replay. Does not know the file's form (dead_letters.py), and prints nothing.

The file is renamed first, to a name with a new number. The store keeps its position under this name, so a replay that
was killed continues. A record that is refused again becomes a dead letter again.
"""

from __future__ import annotations

import itertools
import os
import re
from typing import TYPE_CHECKING

import msgspec

from prefork_logd.config.paths import dead_letters_path
from prefork_logd.ipc.batch import NO_SESSION
from prefork_logd.stores.base import Block
from prefork_logd.stores.dead_letters import DeadLetter, append_letter, opened, read_letters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefork_logd.stores.base import Store

CHUNK = 1000
_PARTS = "dead-letters-{}.replay-{}.jsonl"


class Replay:
    """The replay of one store's dead letters."""

    def __init__(self, state_dir: Path, name: str) -> None:
        """Rename the file of dead letters; include those of interrupted replays. Raises OSError."""
        self._path = dead_letters_path(state_dir, name)
        if self._path.exists():
            with opened(self._path) as fd:
                if os.fstat(fd).st_size:
                    self._path.rename(state_dir / _PARTS.format(name, os.urandom(16).hex()))
        pattern = re.compile(re.escape(_PARTS).replace(r"\{\}", "{}").format(re.escape(name), "([0-9a-f]{32})"))
        found = ((pattern.fullmatch(path.name), path) for path in state_dir.iterdir())
        self._parts = sorted((match[1], path) for match, path in found if match)
        self.total = sum(1 for _, path in self._parts for _ in read_letters(path))

    def run(self, store: Store, advanced: Callable[[int], None]) -> tuple[int, int]:
        """Send all letters; return the numbers of stored and of refused records. Raises StoreError, OSError."""
        taken = refused = 0
        for journal, path in self._parts:
            done, again = self._send(store, journal, path, advanced)
            taken += done - again
            refused += again
            path.unlink()
        return taken, refused

    def _send(self, store: Store, journal: str, path: Path, advanced: Callable[[int], None]) -> tuple[int, int]:
        start = store.open(journal)
        known = {(letter.journal, letter.number) for letter in self._here()}
        letters = enumerate(read_letters(path))
        done = again = 0
        for chunk in _chunks((index, letter) for index, letter in letters if index >= start):
            by_number = dict(chunk)

            def refuse(number: int, _line: bytes, reason: str, by_number: dict[int, DeadLetter] = by_number) -> None:
                nonlocal again
                letter = by_number[number]
                again += 1
                if (letter.journal, letter.number) not in known:
                    known.add((letter.journal, letter.number))
                    append_letter(self._path, msgspec.structs.replace(letter, reason=reason))

            first = chunk[0][0]
            lines = b"".join(bytes(letter.record) + b"\n" for _, letter in chunk)
            store.write([Block(first, len(chunk), NO_SESSION, (), lines)], refuse)
            done += len(chunk)
            advanced(len(chunk))
        return done, again

    def _here(self) -> Iterator[DeadLetter]:
        return read_letters(self._path) if self._path.exists() else iter(())


def _chunks(letters: Iterator[tuple[int, DeadLetter]]) -> Iterator[list[tuple[int, DeadLetter]]]:
    while chunk := list(itertools.islice(letters, CHUNK)):
        yield chunk

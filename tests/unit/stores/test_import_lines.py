"""What a file holds is stored, and what costs something costs itself alone."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.redact import DEFAULT_KEYS
from prefork_logd.errors import StoreError
from prefork_logd.files import unpacking
from prefork_logd.records.redaction import Redactor
from prefork_logd.records.stored import split_lines
from prefork_logd.stores import import_lines
from prefork_logd.stores.import_lines import MOST_NAMED, Imported, import_file, summary
from tests.support import odd_lines
from tests.support.corpus import corpus_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pytest

    from prefork_logd.stores.base import Block

GOOD = [b'{"created":%d.5,"levelno":20,"message":"m"}\n' % number for number in range(10)]


class MemoryStore:
    """A store that keeps lines by number."""

    def __init__(self) -> None:
        self.position = 0
        self.lines: dict[int, bytes] = {}
        self.poison = b"poison"

    def open(self, journal: str) -> int:
        """Return where to go on."""
        assert len(journal) == 32
        return self.position

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:
        """Take what is no poison."""
        for block in blocks:
            assert block.first >= self.position
            lines = split_lines(block.lines)
            assert len(lines) == block.count
            for number, line in enumerate(lines, block.first):
                assert number not in self.lines
                if self.poison in line:
                    refuse(number, line, "is poison")
                else:
                    self.lines[number] = line
            self.position = block.first + block.count

    def maintain(self) -> float:
        """Have nothing to do."""
        return 1.0

    def close(self) -> None:
        """Keep everything."""


def bring(store: MemoryStore, path: Path, octets: bytes) -> tuple[Imported, list[str]]:
    """Import a file of these octets; return what became of it, and the complaints."""
    path.write_bytes(octets)
    complaints: list[str] = []
    done = import_file(store, path, int, lambda number, reason: complaints.append(f"{number}: {reason}"))
    return done, complaints


def test_one_bad_line_costs_itself(tmp_path: Path) -> None:
    """The others are stored under their numbers; the store sees no line that is no record."""
    store = MemoryStore()
    odd = [b"no json\n", b"\n", b'["a"]\n', b'{"level":"x"}\n', b'{"msg":"poison"}\n']
    octets = b"".join(line for pair in zip(odd, GOOD[:5], strict=True) for line in pair)
    done, complaints = bring(store, tmp_path / "a", octets)
    assert done == Imported(5, 0, 4, 1, 1, "")
    assert [json.loads(store.lines[number])["created"] for number in (1, 3, 5, 7, 9)] == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert [one.partition(":")[0] for one in complaints] == ["1", "5", "7", "9"]
    assert complaints[-1] == "9: is poison"


@pytest.mark.slow
def test_our_own_lines_are_stored_to_the_octet(tmp_path: Path) -> None:
    """All of the corpus, and the odd ones; each is counted as a record with what it says."""
    store = MemoryStore()
    lines = [*odd_lines.records(), *corpus_lines()]
    done, complaints = bring(store, tmp_path / "a", b"\xef\xbb\xbf" + b"".join(lines).replace(b"\n", b"\r\n"))
    assert (done, complaints) == (Imported(len(lines), 0, 0, 0, 0, ""), [])
    assert [*store.lines.values()] == lines


def test_foreign_lines_cost_nothing_else(tmp_path: Path) -> None:
    """Deep, huge, torn, damaged: none ends the import."""
    store = MemoryStore()
    octets = b"".join(line for line, _ in odd_lines.foreign) + GOOD[0]
    done, complaints = bring(store, tmp_path / "a", octets)
    numbered = octets.count(b"\n")
    assert done.stored + done.refused + 1 == numbered  # an empty line
    assert len(complaints) == min(done.refused, MOST_NAMED)
    assert store.lines[numbered - 1].startswith(b'{"created":0.5')
    records = sum(is_record for _, is_record in odd_lines.foreign)
    assert done.stored > records  # it takes more than a reader of stored lines does


def test_a_torn_last_line_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    """An import while the file is being written leaves the line's number to a later one."""
    store = MemoryStore()
    octets = b"".join(GOOD)
    done, complaints = bring(store, tmp_path / "a", octets[:-20])
    assert (done.stored, done.refused) == (9, 1)
    assert "10: " in complaints[0]
    assert "the file ends within it" in complaints[0]
    done, complaints = bring(store, tmp_path / "a", octets)
    assert (done.stored, done.before, done.refused, complaints) == (1, 9, 0, [])
    assert len(store.lines) == 10


def test_a_last_line_without_a_newline_is_a_line(tmp_path: Path) -> None:
    """If it is whole."""
    store = MemoryStore()
    assert bring(store, tmp_path / "a", GOOD[0] + GOOD[1].rstrip(b"\n"))[0].stored == 2


class FailingStore(MemoryStore):
    """Cannot be opened or written a few times."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.failures = failures

    def open(self, journal: str) -> int:
        """Fail, or return where to go on."""
        self._fail()
        return super().open(journal)

    def write(self, blocks: Sequence[Block], refuse: Callable[[int, bytes, str], None]) -> None:
        """Fail, or take the lines."""
        self._fail()
        super().write(blocks, refuse)

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise StoreError("locked")


def test_a_store_that_cannot_be_used_for_a_while_is_tried_again(tmp_path: Path) -> None:
    """With longer and longer pauses, and each line once; after most of a minute the import ends."""
    path, waits = tmp_path / "a", []
    path.write_bytes(b"".join(GOOD))
    store = FailingStore(4)
    assert import_file(store, path, int, print, waits.append) == Imported(10, 0, 0, 0, 0, "")
    assert [json.loads(one)["created"] for one in store.lines.values()] == [number + 0.5 for number in range(10)]
    assert waits == [0.5, 1]
    with pytest.raises(StoreError, match="locked"):
        import_file(FailingStore(1000), path, int, print, waits.append)
    assert 40 < sum(waits) < 60


@pytest.mark.slow
def test_a_cut_off_gzip_is_stored_as_far_as_it_goes(tmp_path: Path) -> None:
    """And the trouble is named with its line and a remedy."""
    store = MemoryStore()
    packed = gzip.compress(b"".join(GOOD) * 2000)
    done, _ = bring(store, tmp_path / "a.gz", packed[: len(packed) // 2])
    assert done.stored == len(store.lines) > 1000
    assert f"ends within its packed data, behind line {done.stored + done.refused:,}" in done.trouble
    assert "import the rest from a whole copy" in done.trouble


def test_what_is_missing_is_summed_up() -> None:
    """In a sentence each; nothing where nothing is missing."""
    assert [*summary(Imported(3, 0, 0, 0, 0, ""))] == []
    told = [*summary(Imported(3, 0, 21, 1, 2, ""))]
    assert [line.partition(":")[0] for line in told] == [
        "1 of them without a readable time",
        "2 of them without a known level",
        "only the first 20 refused lines are named",
    ]


@pytest.mark.slow
def test_an_import_takes_the_same_memory_for_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty batches take no more than ten."""
    monkeypatch.setattr(import_lines, "BATCH_LINES", 50)
    monkeypatch.setattr(unpacking, "READ_BYTES", 1000)
    peaks = []
    for batches in (10, 60):
        path = tmp_path / str(batches)
        path.write_bytes(b"".join(GOOD) * 5 * batches)
        store = MemoryStore()
        monkeypatch.setattr(store, "lines", _Nothing())
        tracemalloc.start()
        try:
            assert import_file(store, path, int, print).stored == 50 * batches
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.2


class _Nothing(dict[int, bytes]):
    """Forgets what it is given."""

    def __setitem__(self, key: int, value: bytes) -> None:
        """Do nothing."""


def test_secrets_are_replaced(tmp_path: Path) -> None:
    """In lines of this collector, of other programs, and in values that lie too deep to be read."""
    deep = b'{"a":' * 300 + b'{"password":"geheim"}' + b"}" * 300
    lines = [
        b'{"created":1.5,"levelno":20,"message":"m","extra":{"n":1,"password":"geheim"},"peer":"p","received":2.5}\n',
        b'{"created":1.5,"levelno":20,"message":"m","extra":{"n":12345678901234567890}}\n',
        b'{"time":"2026-11-30T00:00:00Z","msg":"m","headers":[["cookie","geheim"]],"url":"http://u:geheim@h"}\n',
        b'{"time":"2026-11-30T00:00:00Z","msg":"m","x":%b}\n' % deep,
    ]
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"".join(lines))
    store = MemoryStore()
    redactor = Redactor(DEFAULT_KEYS, (), ["url-password"])
    assert import_file(store, path, int, print, redactor=redactor).stored == len(lines)
    assert b"geheim" not in b"".join(store.lines.values())
    assert json.loads(store.lines[0])["extra"] == {"n": 1, "password": "<redacted>"}
    assert b'"extra":{"n":12345678901234567890}' in store.lines[1]
    assert [line.count(b"<redacted>") for line in store.lines.values()] == [1, 0, 2, 1]

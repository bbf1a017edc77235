"""The groups of a collector: counted once, bounded, and in the right state."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import StoreError
from prefork_logd.query.fingerprints import fingerprint
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.errors import book as book_module
from prefork_logd.stores.errors import places as places_module
from prefork_logd.stores.errors import splitting, tally, writing
from prefork_logd.stores.errors import store as module
from prefork_logd.stores.errors.book import Book, Wanted
from prefork_logd.stores.errors.store import ErrorStore
from prefork_logd.stores.errors.tally import Counter
from tests.support.error_groups import failed, opened
from tests.support.stores import JOURNAL, NOW, block, line, never

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    time = __call__


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the store and the book."""
    found = Clock(NOW + 100)
    monkeypatch.setattr(module, "time", found)
    return found


@contextlib.contextmanager
def reading(path: Path, clock: Clock | None = None) -> Iterator[Book]:
    """Give the groups."""
    with contextlib.closing(Book(path / "groups.db", clock or Clock(NOW + 100))) as book:
        yield book


def test_a_group_and_its_parts(tmp_path: Path, clock: Clock) -> None:
    """Everything that is shown of a group."""
    lines = [failed(1), line(msg="fine"), failed(2, service="pay"), failed(9, version="2.5")]
    with opened(tmp_path) as store:
        store.write([block(10, lines)], never)
        assert store.status()["groups"] == 1
        assert store.maintain() > 1
    with reading(tmp_path) as book:
        (row,) = book.groups()
        found = book.details(row.id[3:9])
    assert row.id == fingerprint(read_fields(lines[0]))
    assert (row.title, row.culprit, row.logger) == ("KeyError: <number>", "add in cart", "shop.orders")
    assert (row.count, row.first_seen, row.last_seen, row.level, row.state) == (3, NOW + 1, NOW + 9, 40, "open")
    assert (set(row.services), set(row.versions), row.environments) == ({"shop", "pay"}, {"2.4", "2.5"}, ["prod"])
    assert (sum(row.chart), len(row.chart)) == (3, 24)
    assert {part.name: part.count for part in found.variants} == {"cart:17": 3}
    assert {part.name: part.count for part in found.senders} == dict.fromkeys(
        ("shop prod 2.4", "pay prod 2.4", "shop prod 2.5"), 1
    )
    assert [(one.id, bytes(one.record or b"") + b"\n") for one in found.samples] == [
        (f"{JOURNAL}-10", lines[0]),
        (f"{JOURNAL}-13", lines[3]),
    ]
    assert [(one.what, one.who) for one in found.events] == [("new", "")]


def test_a_retry_counts_nothing_twice(tmp_path: Path, clock: Clock) -> None:
    """Blocks that come again, whole or in part, and another journal that begins at the same number."""
    blocks = [block(0, [failed(1), failed(2)]), block(2, [failed(3)])]
    with opened(tmp_path) as store:
        store.write(blocks, never)
        store.write(blocks, never)
    with opened(tmp_path) as store:
        assert store.open(JOURNAL) == 3
        store.write([block(1, [failed(2), failed(3), failed(4)])], never)
        assert store.open("f" * 32) == 0
        store.write([block(0, [failed(1)])], never)
    with reading(tmp_path) as book:
        assert [row.count for row in book.groups()] == [5]


def _count_forever(path: Path, counted: int) -> None:
    """Count blocks from the store's position on, one in each transaction; the child process of the next test.

    A byte goes to the descriptor `counted` after each transaction.
    """
    with opened(path) as store:
        for first in itertools.count(store.open(JOURNAL), 3):
            store.write([block(first, [failed(first), failed(first + 1), line(msg="fine")])], never)
            os.write(counted, b".")


@pytest.mark.slow
def test_a_process_killed_twenty_times_counts_each_error_once(tmp_path: Path) -> None:
    """By SIGKILL, at twenty places of its work."""
    context = multiprocessing.get_context("fork")
    positions = []
    for turn in range(20):
        ours, theirs = os.pipe()
        child = context.Process(target=_count_forever, args=(tmp_path, theirs))
        child.start()
        os.close(theirs)
        with os.fdopen(ours, "rb") as progress:
            assert progress.read(1) == b".", "it counts"
            child.join(turn * 0.002)
            child.kill()
            child.join()
            child.close()
        with opened(tmp_path) as store:
            positions.append(store.open(JOURNAL))
        counted = 0
        with reading(tmp_path) as book:
            counted = sum(row.count for row in book.groups())
        assert counted == positions[-1] // 3 * 2
    assert positions == sorted(set(positions)), "each process goes on behind the last one"


def test_a_failed_transaction_changes_nothing(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The position is the last statement; if it fails, no error counts, and the retry counts each."""
    with opened(tmp_path) as store:
        store.write([block(0, [failed(1)])], never)
        original = writing.Writer._add_sample
        monkeypatch.setattr(writing.Writer, "_add_sample", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            store.write([block(1, [failed(2)])], never)
        monkeypatch.setattr(writing.Writer, "_add_sample", original)
        store.write([block(1, [failed(2)])], never)
    with reading(tmp_path) as book:
        assert [row.count for row in book.groups()] == [2]


def test_resolving_and_regressing(tmp_path: Path, clock: Clock) -> None:
    """A resolved group: an old record from a spool, an old version, then the repaired version fails again."""
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        store.write([block(0, [failed(1)])], never)
        key = book.groups()[0].id
        assert book.resolve(key, "ada", "2.5").state == "resolved"
        store.write([block(1, [failed(50, version="2.5")])], never)
        store.write([block(2, [failed(150)])], never)
        assert book.row(key).state == "resolved"
        store.write([block(3, [failed(150, version="2.5")])], never)
        assert (book.row(key).state, book.row(key).count) == ("regressed", 4)
        assert [event.what for event in book.details(key).events] == ["regressed", "resolved", "new"]
        assert next((one.what, one.who, one.detail) for one in book.events(1)) == ("resolved", "ada", "in 2.5")


def test_muting(tmp_path: Path, clock: Clock) -> None:
    """Until three more, for a time, for ever."""
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        store.write([block(0, [failed(1)])], never)
        key = book.groups()[0].id
        book.mute(key, "ada", more=3)
        store.write([block(1, [failed(2), failed(3)])], never)
        assert book.row(key).state == "muted"
        store.write([block(3, [failed(4)])], never)
        assert book.row(key).state == "open"
        book.mute(key, "ada", for_s=60)
        assert [row.id for row in book.groups(Wanted(states=["muted"]))] == [key]
        clock.now += 60
        assert book.row(key).state == "open"
        assert [row.id for row in book.groups(Wanted(states=["open"]))] == [key]
        store.maintain()
        assert book.events(0)[-1].what == "unmuted"
        assert book.mute(key, "ada").state == "muted"
        clock.now += 1e9
        store.maintain()
        assert book.row(key).state == "muted"
        assert book.reopen(key, "ada").state == "open"


def test_assignee_and_note(tmp_path: Path, clock: Clock) -> None:
    """Both stay until they are changed; each change is an event with its author."""
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        store.write([block(0, [failed(1)])], never)
        key = book.groups()[0].id
        assert book.assign(key, "ada", "bob").assignee == "bob"
        assert book.annotate(key, "ada", "see \udcff ticket").note == "see ? ticket"
        assert book.row(key).assignee == "bob"
        assert [(one.what, one.who) for one in book.events(1)] == [("assigned", "ada"), ("noted", "ada")]
        assert book.last_event() == 3


def test_new_groups_are_capped_by_service_and_hour(tmp_path: Path, clock: Clock) -> None:
    """A thousand distinct errors of one service: some groups, and one that says so; all of them count."""
    lines = [failed(1).replace(b"in add", b"in f%d" % number) for number in range(300)]
    other = failed(2, service="pay")
    with opened(tmp_path, new_groups_per_hour=20) as store, reading(tmp_path, clock) as book:
        store.write([block(0, [*lines[:200], other])], never)
        rows = book.groups(Wanted(order="count", limit=1000))
        assert (len(rows), rows[0].count, sum(row.count for row in rows)) == (22, 180, 201)
        assert rows[0].title.startswith("Too many new groups in an hour, of shop:")
        assert "shop: 20 new groups in this hour" in store.status()["warnings"][0]
        clock.now += 3600
        store.maintain()
        store.write([block(201, lines[195:205])], never)
        assert len(book.groups(Wanted(limit=1000))) == 32
        assert store.status()["warnings"] == []


def test_many_services_are_capped_together(tmp_path: Path, clock: Clock) -> None:
    """A client that names a new service each time gets ten times as many groups as one, then one more."""
    lines = [failed(1, service=f"s{n}").replace(b"in add", b"in f%d" % n) for n in range(100)]
    with opened(tmp_path, new_groups_per_hour=2) as store, reading(tmp_path, clock) as book:
        store.write([block(0, lines)], never)
        rows = book.groups(Wanted(order="count", limit=1000))
    assert (len(rows), rows[0].count) == (21, 80)
    assert "of all services" in rows[0].title


def test_errors_that_are_not_told_apart_count_in_one_group(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its title and `status` say so, in that hour; nothing of it is a new group of a service."""
    monkeypatch.setattr(tally, "MOST_GROUPS", 5)
    lines = [failed(1).replace(b"in add", b"in f%d" % number) for number in range(40)]
    with opened(tmp_path, new_groups_per_hour=20) as store, reading(tmp_path, clock) as book:
        store.write([block(0, lines)], never)
        store.write([block(40, lines[5:20])], never)
        rows = book.groups(Wanted(order="count", limit=1000))
        assert (len(rows), rows[0].count, sum(row.count for row in rows)) == (11, 45, 55)
        assert rows[0].title.startswith("Too many errors at once")
        (warning,) = store.status()["warnings"]
        assert warning.startswith("counted 45 errors of this hour")
        clock.now += 3600
        store.maintain()
        assert store.status()["warnings"] == []


def test_times_of_other_centuries_make_no_chart(tmp_path: Path, clock: Clock) -> None:
    """A client that sends any time cannot fill the file with hours; the count stays whole."""
    lines = [failed(hour * 3600) for hour in range(-400, 400)]
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        store.write([block(0, lines)], never)
        (row,) = book.groups()
        assert row.count == 800
        hours = store._opened().execute("SELECT count(*) FROM hours").fetchone()[0]
        assert hours <= writing.KEPT_HOURS + 2


def test_the_parts_of_a_group_are_bounded(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Versions, places and samples; their counts stay whole."""
    monkeypatch.setattr(writing, "MOST_SENDERS", 5)
    monkeypatch.setattr(writing, "MOST_PLACES", 4)
    monkeypatch.setattr(writing, "LONGEST_SAMPLE", 2_000)
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        for first in range(0, 30, 10):
            lines = [failed(n, version=f"1.{n}").replace(b"line 17", b"line %d" % n) for n in range(first, first + 10)]
            store.write([block(first, lines)], never)
        long = failed(99, environment="x" * 3_000)
        store.write([block(30, [long])], never)
        found = book.details(book.groups()[0].id)
    assert (len(found.senders), sum(part.count for part in found.senders), found.senders[0].name) == (6, 31, "(others)")
    assert (len(found.variants), sum(part.count for part in found.variants)) == (5, 31)
    assert [(part.name, part.count) for part in found.forms] == [("KeyError: <number>", 31)]
    assert [one.created - NOW for one in found.samples] == [0, 99, 29, 19, 9]
    assert [one.record is None for one in found.samples] == [False, True, False, False, False]


def test_forms_of_the_message_are_bounded(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over batches; a split divides them, also those from before the second place, and a join adds them again."""
    monkeypatch.setattr(writing, "MOST_FORMS", 2)
    monkeypatch.setattr(book_module.tally, "MOST_FORMS", 2)
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        for first, word in enumerate(("apple", "pear", "plum", "pear")):
            made = failed(first).replace(b"KeyError: %d" % first, b"KeyError: %s" % word.encode())
            store.write([block(first, [made.replace(b"line 17", b"line %d" % (17 + first % 2))])], never)
        (whole,) = book.groups()
        expected = {"KeyError: pear": 2, "KeyError: apple": 1, "(others)": 1}
        assert _forms(book, whole.id) == expected
        first_place = next(one.name for one in book.details(whole.id).variants if one.name.endswith(":17"))
        for _ in range(2):
            own = book.split(whole.id, "", first_place)
            assert _forms(book, own.id) == {"KeyError: apple": 1, "(others)": 1}
            assert _forms(book, whole.id) == {"KeyError: pear": 2}
            book.join(own.id, "")
            assert _forms(book, whole.id) == expected


def _forms(book: Book, key: str) -> dict[str, int]:
    return {part.name: part.count for part in book.details(key).forms}


def test_errors_without_a_service_or_a_place(tmp_path: Path, clock: Clock) -> None:
    """They are not called others."""
    line = b'{"created":%d,"levelno":40,"levelname":"ERROR","name":"shop","message":"no stock"}\n' % NOW
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        store.write([block(0, [line])], never)
        found = book.details(book.groups()[0].id)
    assert [part.name for part in (*found.senders, *found.variants)] == ["(no service)", "(no place)"]


def test_old_groups_are_removed(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the bound the longest unseen ones go, those with a note or an assignee last."""
    monkeypatch.setattr(module, "MOST_REMOVED", 4)
    lines = [failed(n).replace(b"in add", b"in f%d" % n) for n in range(20)]
    with opened(tmp_path, most_groups=10) as store, reading(tmp_path, clock) as book:
        store.write([block(0, lines)], never)
        key = book.groups(Wanted(limit=1000))[-1].id
        book.annotate(key, "", "kept")
        while store.maintain() < 1:
            pass
        rows = book.groups(Wanted(limit=1000))
        assert [row.last_seen - NOW for row in rows] == [*range(19, 10, -1), 0]
        for table in ("keys", "senders", "variants", "forms", "samples", "hours"):
            assert store._opened().execute(f"SELECT count(DISTINCT group_id) FROM {table}").fetchone()[0] == 10


def test_a_later_version_of_the_algorithm_finds_the_groups_of_the_older(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both keys name one group, so a link and its state stay; two groups by the old rule stay two."""
    from prefork_logd.query import fingerprints
    from prefork_logd.stores.errors import tally

    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        store.write([block(0, [failed(1)])], never)
        key = book.groups()[0].id
        book.resolve(key, "ada")
        both = {**fingerprints.ALGORITHMS, "g2": lambda _, chain: [chain[-1].type]}
        monkeypatch.setattr(fingerprints, "ALGORITHMS", both)
        monkeypatch.setattr(tally, "ALGORITHMS", both)
        store._counter = tally.Counter()
        store.write([block(1, [failed(200)])], never)
        (row,) = book.groups()
        assert (row.id, row.count, row.state) == (key, 2, "regressed")
        newer = fingerprint(read_fields(failed(1)), "g2")
        assert book.row(newer or "").id == key
        store.write([block(2, [failed(1).replace(b"in add", b"in other")])], never)
        assert {one.id for one in book.groups()} == {key}


def test_a_file_that_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    """Another program's database, a later version, no database."""
    path = tmp_path / "groups.db"
    with pytest.raises(StoreError, match="there are no groups yet"), reading(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (x)")
    with pytest.raises(StoreError, match="was made by another program; move it away"), opened(tmp_path):
        pass
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 9")
    with pytest.raises(StoreError, match="has the tables of version 9"), reading(tmp_path):
        pass
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="not a database"), opened(tmp_path):
        pass


@pytest.mark.parametrize("key", ["", "g1:", "g1:zzzz", "abc", "%", "g1:%%%%", "g1:0000000000000000", "' OR 1"])
def test_a_wrong_id_is_explained(tmp_path: Path, clock: Clock, key: str) -> None:
    """Patterns of SQL are no ids."""
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        store.write([block(0, [failed(1)])], never)
        with pytest.raises(ValueError, match=r"is not the id of a group|there is no group"):
            book.details(key)


def test_lists(tmp_path: Path, clock: Clock) -> None:
    """By state, service, text and order; wrong values are explained."""
    lines = [failed(1), failed(2), failed(3, service="pay").replace(b"in add", b"in charge")]
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        store.write([block(0, lines)], never)
        assert [row.culprit for row in book.groups()] == ["charge in cart", "add in cart"]
        assert [row.culprit for row in book.groups(Wanted(order="count"))] == ["add in cart", "charge in cart"]
        assert [row.culprit for row in book.groups(Wanted(service="pay"))] == ["charge in cart"]
        assert [row.culprit for row in book.groups(Wanted(text="CHARGE"))] == ["charge in cart"]
        assert [row.culprit for row in book.groups(Wanted(limit=1, offset=1))] == ["add in cart"]
        assert book.groups(Wanted(states=["resolved", "muted"])) == []
        assert book.counts() == {"open": 2, "regressed": 0, "muted": 0, "resolved": 0}
        with pytest.raises(ValueError, match="'shut' is not a state; write one of open, regressed"):
            book.groups(Wanted(states=["shut"]))
        with pytest.raises(ValueError, match="'size' is not an order; write one of last, first, count"):
            book.groups(Wanted(order="size"))


def places(store: ErrorStore, first: int, *linenos: int) -> None:
    """Count an error of one function at each of these lines."""
    lines = [failed(first + index).replace(b"line 17", b"line %d" % lineno) for index, lineno in enumerate(linenos)]
    store.write([block(first, lines)], never)


def test_a_place_is_split_off_and_joined_again(tmp_path: Path, clock: Clock) -> None:
    """Counts stay whole; new errors of the place count in its group, which has the fingerprint of its records."""
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        places(store, 0, 17, 17, 21, 17)
        (whole,) = book.groups()
        found = {part.name for part in book.details(whole.id).variants}
        (place,) = (name for name in found if name.endswith(":21"))
        own = book.split(whole.id, "ada", place)
        assert own.id.startswith("g1v:")
        assert (own.count, book.row(whole.id).count, own.culprit.endswith(place)) == (1, 3, True)
        places(store, 4, 21, 17, 21)
        assert (book.row(own.id).count, book.row(whole.id).count) == (3, 4)
        for sample in book.details(own.id).samples:
            assert fingerprint(json.loads(bytes(sample.record or b"")), "g1v") == own.id
        assert [(one.what, one.who) for one in book.details(own.id).events] == [("split", "ada")]
        joined = book.join(own.id, "bob")
        assert (joined.id, joined.count, joined.last_seen) == (whole.id, 7, NOW + 6)
        places(store, 7, 21)
        details = book.details(whole.id)
        assert {part.name: part.count for part in details.variants} == {place: 4, place.replace("21", "17"): 4}
        assert (details.group.count, sum(details.group.chart), len(book.groups())) == (8, 8, 1)


def parts_of(book: Book, key: str) -> tuple[dict[str, int], dict[int, int]]:
    """Return the senders and the hours of a group."""
    found = book.details(key)
    hours = {int(found.hours_from // 3600) + at: count for at, count in enumerate(found.hours) if count}
    return {part.name: part.count for part in found.senders}, hours


@pytest.mark.parametrize("in_one_batch", [True, False])
def test_a_split_divides_services_and_chart(tmp_path: Path, clock: Clock, *, in_one_batch: bool) -> None:
    """Also of errors from before the second place; what is joined again is as before, and can be split again."""
    sent = [
        (17, "shop", 0),
        (17, "shop", 0),
        (17, "pay", 1),
        (21, "shop", 1),
        (21, "mail", 2),
        (17, "shop", 2),
        (30, "shop", 2),
    ]
    hour = int(NOW // 3600)
    lines = [
        failed(1, service=service)
        .replace(b"line 17", b"line %d" % lineno)
        .replace(b'"created":%d' % (NOW + 1), b'"created":%d' % ((hour - 5 + age) * 3600))
        for lineno, service, age in sent
    ]
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        for first, last in [(0, 7)] if in_one_batch else zip(range(7), range(1, 8), strict=True):
            store.write([block(first, lines[first:last])], never)
        (whole,) = book.groups()
        before = parts_of(book, whole.id)
        assert sum(before[1].values()) == 7
        by_line = {part.name.rpartition(":")[2]: part.name for part in book.details(whole.id).variants}
        for _ in range(2):
            own = book.split(whole.id, "", by_line["21"])
            assert parts_of(book, own.id) == ({"shop prod 2.4": 1, "mail prod 2.4": 1}, {hour - 4: 1, hour - 3: 1})
            rest = {"shop prod 2.4": 4, "pay prod 2.4": 1}
            assert parts_of(book, whole.id) == (rest, {hour - 5: 2, hour - 4: 1, hour - 3: 2})
            # With one place left, the group keeps no rows of places.
            last = book.split(whole.id, "", by_line["30"])
            assert parts_of(book, last.id) == ({"shop prod 2.4": 1}, {hour - 3: 1})
            for table in ("place_hours", "place_senders", "place_forms"):
                assert store._opened().execute(f"SELECT count(*) FROM {table}").fetchone()[0] == 0
            for one in (last, own):
                book.join(one.id, "")
            assert parts_of(book, whole.id) == before


def test_hours_and_senders_of_places_are_bounded(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest go; a split then begins with those that are kept."""
    monkeypatch.setattr(places_module, "MOST_ROWS", 3)
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        places(store, 0, *range(1, 7))
        store.maintain()
        for table in ("place_hours", "place_senders", "place_forms"):
            assert store._opened().execute(f"SELECT count(*) FROM {table}").fetchone()[0] <= 3
        (whole,) = book.groups()
        for part in book.details(whole.id).variants[:-1]:
            book.split(whole.id, "", part.name)
        assert sum(row.count for row in book.groups()) == 6


def test_what_cannot_be_split_is_explained(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong place, the only place, too many, and a group that was never split off."""
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        places(store, 0, 17, 21)
        (whole,) = book.groups()
        with pytest.raises(ValueError, match=r"'x:1' is not a place of .*; its places are"):
            book.split(whole.id, "", "x:1")
        with pytest.raises(ValueError, match="was not split off"):
            book.join(whole.id, "")
        places_of = [part.name for part in book.details(whole.id).variants]
        monkeypatch.setattr(splitting, "MOST_SPLITS", 0)
        with pytest.raises(ValueError, match="are split off already"):
            book.split(whole.id, "", places_of[0])
        monkeypatch.undo()
        own = book.split(whole.id, "", places_of[0])
        for one in (own, whole):
            with pytest.raises(ValueError, match="has one place only"):
                book.split(one.id, "", book.details(one.id).variants[0].name)


def test_a_split_in_the_middle_of_a_batch_counts_every_error(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is counted again."""
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        places(store, 0, 17, 21)
        (whole,) = book.groups()
        place = next(part.name for part in book.details(whole.id).variants if part.name.endswith(":21"))
        add = Counter.add

        def splits_once(counter: Counter, number: int, one: bytes) -> None:
            add(counter, number, one)
            monkeypatch.undo()
            book.split(whole.id, "", place)

        monkeypatch.setattr(Counter, "add", splits_once)
        places(store, 2, 21, 21, 17)
        assert sorted(row.count for row in book.groups()) == [2, 3]


def test_a_removed_group_ends_its_split(tmp_path: Path, clock: Clock) -> None:
    """Errors of the place count in the whole group again."""
    with opened(tmp_path) as store, reading(tmp_path, clock) as book:
        places(store, 0, 17, 21)
        (whole,) = book.groups()
        own = book.split(whole.id, "", book.details(whole.id).variants[1].name)
        store._opened().execute("DELETE FROM groups WHERE key = ?", (own.id,))
        places(store, 2, 17, 21)
        assert [row.count for row in book.groups()] == [3]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_a_file_of_an_older_version_is_upgraded(tmp_path: Path, clock: Clock, version: int) -> None:
    """Its groups stay."""
    with opened(tmp_path) as store:
        places(store, 0, 17)
        added = ["splits", "forms", "place_hours place_senders", "place_forms"][version - 1 :]
        names = " ".join(added).split()
        store._opened().executescript("".join(f"DROP TABLE {name};" for name in names))
        store._opened().execute(f"PRAGMA user_version = {version}")
    with reading(tmp_path, clock) as book:
        assert [row.count for row in book.groups()] == [1]
    with opened(tmp_path) as store:
        places(store, 1, 17)


def test_a_service_with_a_lone_surrogate_makes_groups(tmp_path: Path, clock: Clock) -> None:
    """Its name is kept with a question mark; no error is refused, also above the bound of new groups."""
    lines = [failed(n, service="pay").replace(b'"pay"', b'"\\ud800"').replace(b"in add", b"in f%d" % n) for n in (1, 2)]
    with opened(tmp_path, new_groups_per_hour=1) as store:
        store.write([block(0, lines)], never)
    with reading(tmp_path) as book:
        assert {(row.count, *row.services) for row in book.groups()} == {(1, "?")}
        assert [row.title for row in book.groups() if row.title.startswith("Too many")] == [
            "Too many new groups in an hour, of ?: further errors are counted here"
        ]


def test_lists_of_services_and_numbers(tmp_path: Path, clock: Clock) -> None:
    """How many groups match, which services there are; a group whose mute is over counts as open."""
    with opened(tmp_path) as store:
        store.write(
            [block(0, [failed(1), failed(2, service="pay").replace(b"in add", b"in charge"), failed(3)])], never
        )
    with reading(tmp_path, clock) as book:
        assert book.services() == ["pay", "shop"]
        assert book.matching() == 2
        assert book.matching(Wanted(service="pay", limit=1)) == book.matching(Wanted(text="CHARGE")) == 1
        with pytest.raises(ValueError, match="is not a state"):
            book.matching(Wanted(states=["shut"]))
        key = book.groups()[0].id
        book.mute(key, "bob", for_s=60)
        assert (book.counts()["muted"], book.matching(Wanted(states=["muted"]))) == (1, 1)
        clock.now += 60
        assert (book.counts()["open"], book.matching(Wanted(states=["muted"]))) == (2, 0)


def test_the_hours_of_a_group(tmp_path: Path, clock: Clock) -> None:
    """Two weeks by hour, the current hour last; what is older is in the count alone."""
    old = failed(1).replace(b'"created":%d' % (NOW + 1), b'"created":%d' % (NOW - 15 * 86_400))
    assert old != failed(1)
    with opened(tmp_path) as store:
        store.write([block(0, [old, failed(2), failed(3)])], never)
    with reading(tmp_path) as book:
        found = book.details(book.groups()[0].id)
    assert (len(found.hours), sum(found.hours), found.hours[-1], found.group.count) == (336, 2, 2, 3)
    assert found.hours_from == (int((NOW + 100) // 3600) - 335) * 3600


def test_a_file_that_was_moved_away_is_noticed(tmp_path: Path) -> None:
    """So that errors are not counted where nobody sees them; the next opening makes a new file."""
    with opened(tmp_path) as store:
        store.write([block(0, [failed(1)])], never)
        (tmp_path / "groups.db").rename(tmp_path / "moved.db")
        with pytest.raises(StoreError, match=r"groups\.db: was moved or removed"):
            store.write([block(1, [failed(2)])], never)
        with contextlib.closing(sqlite3.connect(tmp_path / "groups.db")):
            (tmp_path / "groups.db").touch()
        with pytest.raises(StoreError, match=r"groups\.db: was moved or replaced"):
            store.maintain()
        store.close()
        assert store.open(JOURNAL) == 0
        store.write([block(0, [failed(1), failed(2)])], never)
    with reading(tmp_path) as book:
        assert [row.count for row in book.groups()] == [2]

"""Sampling keeps one of N, or at most N a second, of each key, and the marks add up to what came."""

from __future__ import annotations

from typing import Any

import pytest

from prefork_logd.config.load import loads
from prefork_logd.errors import ConfigError
from prefork_logd.ingest.sampling import KEY_BYTES, MARK, MOST_KEYS, Sampler
from prefork_logd.records.record import Record, make_record
from prefork_logd.records.sender import NOBODY, make_sender


class Clock:
    """A clock that a test sets."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def sampler(toml: str, workers: int = 1, clock: Any = None, first: int = 0) -> Sampler:
    settings = loads(f"[[sample]]\n{toml}\n", "", {"state_dir": "/state"})
    return Sampler(settings.sample, workers, clock or Clock(), lambda most: min(first, most - 1))


def record(name: str = "n", levelno: int = 20, **extra: Any) -> Record:
    return make_record({"name": name, "msg": "m", "created": 1.0, "levelno": levelno, **extra}, "p", 1.0)


def test_one_of_n_is_kept_of_each_key() -> None:
    """Loggers, levels and services are counted each by itself."""
    one = sampler("keep_one_of = 3")
    shop, bank = make_sender("h", "shop"), make_sender("h", "bank")
    for sender in (shop, bank):
        for name in ("a", "b"):
            for level in (10, 20):
                assert [one.sample(record(name, level), sender) for _ in range(7)] == [0, 0, 3, 0, 0, 3, 0]
    assert one.dropped == 8 * 5


def test_the_first_kept_record_is_random() -> None:
    """So that the sum of the marks of many keys with one record each is their number, on average."""
    sums = []
    for first in range(5):
        one = sampler("keep_one_of = 5", first=first)
        sums.append(sum(one.sample(record(f"logger-{number}"), NOBODY) for number in range(10)))
    assert sum(sums) / len(sums) == 10


def test_at_most_n_a_second_are_kept_and_stand_for_the_others() -> None:
    """After a pause the next one says how many were dropped before it."""
    clock = Clock()
    one = sampler("keep_per_second = 2", clock=clock)
    assert [one.sample(record(), NOBODY) for _ in range(6)] == [1, 1, 0, 0, 0, 0]
    clock.now_s += 0.5
    assert [one.sample(record(), NOBODY) for _ in range(2)] == [5, 0]
    clock.now_s += 100
    assert [one.sample(record(), NOBODY) for _ in range(3)] == [2, 1, 0]


def test_each_worker_has_its_share_of_a_rate() -> None:
    """A share below one a second keeps one after several seconds."""
    clock = Clock()
    one = sampler("keep_per_second = 2", workers=4, clock=clock)
    kept = 0
    for _ in range(100):
        kept += one.sample(record(), NOBODY) > 0
        clock.now_s += 0.1
    assert 5 <= kept <= 6


@pytest.mark.parametrize(
    ("toml", "matches", "others"),
    [
        ('level = "INFO"', [record(levelno=20)], [record(levelno=10), record(levelno=30)]),
        ('below = "INFO"', [record(levelno=10)], [record(levelno=20)]),
        ('loggers = ["a.b"]', [record("a.b"), record("a.b.c")], [record("a"), record("a.bc")]),
        ("fields = {x = 1}", [record(x=1)], [record(), record(x=2), record(x=True), record(x="1")]),
        ("fields = {x = true, y = 'a'}", [record(x=True, y="a")], [record(x=True), record(x=True, y="b")]),
        ('services = ["shop"]', [], [record()]),
        ('environments = ["prod"]', [], [record()]),
    ],
)
def test_other_records_are_all_kept(toml: str, matches: list[Record], others: list[Record]) -> None:
    """They are not marked."""
    one = sampler(f"keep_one_of = 1000\n{toml}")
    assert [one.sample(found, NOBODY) for found in matches] == [0] * len(matches)
    assert [one.sample(found, NOBODY) for found in others] == [1] * len(others)


def test_the_first_rule_that_matches_decides() -> None:
    """A record is not sampled twice."""
    one = sampler("keep_one_of = 2\nloggers = ['a']\n[[sample]]\nkeep_one_of = 1000")
    assert [one.sample(record("a"), NOBODY) for _ in range(4)] == [0, 2, 0, 2]
    assert [one.sample(record("b"), NOBODY) for _ in range(4)] == [0] * 4


def test_a_decision_that_is_taken_back_changes_nothing() -> None:
    """Python judges the record again."""
    clock = Clock()
    for toml in ("keep_one_of = 3", "keep_per_second = 2"):
        one, other = sampler(toml, clock=clock), sampler(toml, clock=clock)
        for _ in range(10):
            one.sample(record(), NOBODY)
            one.undo()
            assert one.sample(record(), NOBODY) == other.sample(record(), NOBODY)
        assert one.dropped == other.dropped


def test_what_is_remembered_is_bounded() -> None:
    """Keys, the length of their names, and marked senders."""
    one = sampler("keep_one_of = 2")
    for number in range(MOST_KEYS + 10):
        one.sample(record(f"{number}" + "x" * 10_000), NOBODY)
    assert len(one._keys) == MOST_KEYS
    assert all(len(place[2]) <= KEY_BYTES for place in one._keys)
    senders = [make_sender(f"h{number}") for number in range(3000)]
    for sender in senders:
        marked = one.mark(sender, 2)
        assert marked is one.mark(sender, 2)
        assert (marked.fields, marked.host) == ({MARK: 2}, sender.host)
    assert len(one._marked) <= 1024


@pytest.mark.parametrize(
    ("toml", "problem"),
    [
        ("", "sample: needs either keep_one_of or keep_per_second"),
        ("keep_one_of = 2\nkeep_per_second = 1", "sample: needs either keep_one_of or keep_per_second"),
        ("keep_one_of = 1", "sample.keep_one_of: keeps every record if it is 1"),
        ("keep_one_of = 2\nbelow = 'X'", "sample.below: 'X' is not a level"),
        (
            "keep_one_of = 2\nlevel = 'WARNING'",
            "sample.level: is not lower than below (WARNING), so no record is sampled",
        ),
        ("keep_one_of = 2\nper = ['host']", "sample.per: invalid value 'host'"),
        ("keep_one_of = 2\nfields = {x = 1.5}", "sample.fields"),
        ("keep_one_of = 2\nfields = {x = 9223372036854775808}", "sample.fields"),
        ("keep_one_of = 2\nloggers = ['']", "sample.loggers: holds an empty name"),
    ],
)
def test_a_rule_that_cannot_be_kept_is_an_error(toml: str, problem: str) -> None:
    """With its place."""
    with pytest.raises(ConfigError) as caught:
        sampler(toml)
    assert any(problem in str(found) for found in caught.value.problems), caught.value.problems

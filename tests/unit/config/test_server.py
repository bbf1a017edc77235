"""The tables [server] and [limits]: each default is usable, each bound holds on both sides."""

from __future__ import annotations

import os

import msgspec
import pytest

from prefork_logd.config import cpus
from prefork_logd.config.load import loads
from prefork_logd.config.server import TABLES, LimitSettings, ServerSettings
from tests.support.settings import STATE, problems

MIB = 1 << 20


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_defaults_have_no_problem(table: type[ServerSettings | LimitSettings]) -> None:
    """A table that is not written is valid."""
    assert [*table().problems()] == []


@pytest.mark.parametrize(
    ("key", "least", "most"),
    [
        ("max_record_bytes", 1024, 64 * MIB),
        ("max_connections", 1, 1_000_000),
        ("max_connections_per_address", 0, 1_000_000),
        ("queue_bytes", 262_144, 1024 * MIB),
        ("journal_segment_bytes", 65_536, 1024 * MIB),
        ("max_sessions", 16, 16_777_216),
    ],
)
def test_a_limit_has_bounds(key: str, least: int, most: int) -> None:
    """They are part of it; one less or more is a problem that names the key."""
    for value in (least, most):
        assert getattr(loads(f"[limits]\n{key} = {value}", "", STATE).limits, key) == value
    for value in (least - 1, most + 1):
        (problem,) = problems(f"[limits]\n{key} = {value}")
        assert problem.startswith(f"x.toml:2: limits.{key}: ")


@pytest.mark.parametrize("key", ["record_timeout", "drain_timeout", "session_retention"])
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "'' is not a duration"),
        ("0s", "must be longer than 0"),
        ("-1s", "'-1s' is not a duration"),
        ("soon", "'soon' is not a duration"),
        ("36501d", "'36501d' is longer than 100 years"),
        ("9" * 400 + "w", "is longer than 100 years"),
    ],
)
def test_a_time_that_cannot_be_used_is_a_problem(key: str, value: str, problem: str) -> None:
    """One that is empty, or that no process could wait for."""
    (found,) = problems(f'[limits]\n{key} = "{value}"')
    assert found.startswith(f"x.toml:2: limits.{key}: ")
    assert problem in found
    assert len(found) < 200


def test_times_are_seconds() -> None:
    """Those of a session are whole ones."""
    limits = LimitSettings(record_timeout="1.5s", drain_timeout="250ms", session_retention="36500d")
    assert (limits.record_timeout_s, limits.drain_timeout_s) == (1.5, 0.25)
    assert limits.session_retention_s == 36_500 * 86_400
    assert isinstance(limits.session_retention_s, int)
    assert [*limits.problems()] == []


def test_the_journal_has_room_for_two_segments() -> None:
    """With one, it would be full before the first can be removed."""
    enough = LimitSettings(journal_bytes=2 * MIB, journal_segment_bytes=MIB)
    assert [*enough.problems()] == []
    less = msgspec.structs.replace(enough, journal_bytes=2 * MIB - 1)
    assert [*less.problems()] == [("journal_bytes", "must be at least twice limits.journal_segment_bytes")]


@pytest.mark.parametrize(
    ("value", "usable"), [(1, True), (248, True), (0, False), (249, False), ('"auto"', True), ('"all"', False)]
)
def test_the_number_of_workers(value: object, usable: bool) -> None:
    """A number, or a word for the processors that may be used."""
    text = f"[server]\nworkers = {value}"
    if usable:
        assert loads(text, "", STATE).server.worker_count == (value if isinstance(value, int) else cpus.usable())
    else:
        assert problems(text)[0].startswith("x.toml:2: server.workers: ")
    assert 1 <= ServerSettings().worker_count <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ServerSettings(bind=("h:1", "nowhere", "h:2", "::1:5")), ["bind", "bind"]),
        (ServerSettings(bind=("h:1", "h:1")), ["bind"]),
        (ServerSettings(bind=("h:0", "[::1]:0", "unix:/a")), []),
        (ServerSettings(bind=("h:65536",)), ["bind"]),
        (ServerSettings(bind=("unix:/a\0b",)), ["bind"]),
        (ServerSettings(state_dir="/a\0b"), ["state_dir"]),
    ],
)
def test_every_address_and_path_is_looked_at(settings: ServerSettings, expected: list[str]) -> None:
    """All that cannot be used are named at once."""
    assert [key for key, _ in settings.problems()] == expected

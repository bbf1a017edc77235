"""How records and people change the state of a group."""

from __future__ import annotations

import pytest

from prefork_logd.stores.errors.states import Arrival, State, after_records, at_time, muted, resolved

NEVER = float("inf")


@pytest.mark.parametrize(
    ("arrival", "name"),
    [
        (Arrival("2.4", 99.0, 0.0), "resolved"),  # logged before, and shipped late from a spool
        (Arrival("2.4", 100.0, 0.0), "resolved"),
        (Arrival("2.4", 100.5, 0.0), "regressed"),
        (Arrival("", 100.5, NEVER), "regressed"),
    ],
)
def test_a_resolved_group_regresses_by_a_record_logged_later(arrival: Arrival, name: str) -> None:
    """The time of logging counts, not that of arrival."""
    assert after_records(resolved(100.0), 7, [arrival]).name == name


@pytest.mark.parametrize(
    ("arrival", "name"),
    [
        (Arrival("2.3", 200.0, 50.0), "resolved"),  # a server that still runs the old version
        (Arrival("2.4", 200.0, 50.0), "regressed"),
        (Arrival("2.5", 200.0, NEVER), "regressed"),
        (Arrival("2.5", 200.0, 150.0), "regressed"),
        (Arrival("", 200.0, 50.0), "regressed"),
        (Arrival("2.5", 90.0, NEVER), "resolved"),
    ],
)
def test_a_group_resolved_in_a_version(arrival: Arrival, name: str) -> None:
    """Versions that it had before are old ones."""
    assert after_records(resolved(100.0, "2.4"), 7, [arrival]).name == name


def test_a_muted_group_opens_by_count_or_time() -> None:
    """Whatever comes first; without both it stays muted."""
    arrivals = [Arrival("", 50.0, NEVER)]
    assert after_records(muted(count=10), 9, arrivals).name == "muted"
    assert after_records(muted(count=10), 10, arrivals) == State("open")
    assert after_records(muted(until=50.0), 9, arrivals) == State("open")
    assert after_records(muted(until=50.5), 9, arrivals).name == "muted"
    assert after_records(muted(), 10**9, arrivals).name == "muted"
    assert at_time(muted(until=60.0), 59.9).name == "muted"
    assert at_time(muted(until=60.0), 60.0) == State("open")
    assert at_time(muted(), 1e12).name == "muted"


@pytest.mark.parametrize("name", ["open", "regressed"])
def test_other_groups_stay_as_they_are(name: str) -> None:
    """New records change neither."""
    state = State(name)  # type: ignore[arg-type]
    assert after_records(state, 5, [Arrival("1", 1e9, NEVER)]) is state
    assert at_time(state, 1e12) is state

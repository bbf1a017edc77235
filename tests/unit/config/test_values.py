"""Single values of a configuration: how they are written and printed."""

from __future__ import annotations

import msgspec
import pytest

from prefork_logd.config import values
from prefork_logd.config.values import TimedSettings, durations, format_duration, path_in


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", ""),
        ("keys", "/state/keys"),
        ("./a//b/", "/state/a/b"),
        ("../etc/keys", "/etc/keys"),
        ("/etc/./keys", "/etc/keys"),
        ("/state/../keys", "/keys"),
    ],
)
def test_a_path_is_seen_from_a_directory(path: str, expected: str) -> None:
    """An absolute one stays where it is; one that is not given is not the directory."""
    assert path_in("/state", path) == expected


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.26, "0.3 s"), (61, "1 min 1 s"), (3600, "1 h 0 min"), (90_000, "1 d 1 h")]
)
def test_durations_are_said_in_their_two_largest_units(seconds: float, text: str) -> None:
    """Nobody wants to divide by 86,400."""
    assert format_duration(seconds) == text


class _Timed(TimedSettings, frozen=True, kw_only=True):
    """Two durations, one of which may be empty."""

    DURATIONS = durations(wait=None, keep=0.0)

    wait: str = "2s"
    keep: str = ""


def test_durations_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """When settings are made, replaced or decoded; not when they are used."""
    settings = _Timed(keep="1d")
    decoded = msgspec.json.decode(msgspec.json.encode(settings), type=_Timed)
    replaced = msgspec.structs.replace(settings, wait="500ms")
    monkeypatch.setattr(values, "parse_duration", None)
    assert (settings.seconds("wait"), settings.seconds("keep")) == (2.0, 86_400.0)
    assert (decoded.seconds("wait"), replaced.seconds("wait")) == (2.0, 0.5)


def test_seconds_are_no_setting() -> None:
    """They are neither encoded nor compared, and the text stays as it was written."""
    assert msgspec.to_builtins(_Timed(keep="1d")) == {"wait": "2s", "keep": "1d"}
    assert _Timed(keep="24h") != _Timed(keep="1d")
    assert _Timed(keep="1d") == _Timed(keep="1d")


def test_a_duration_that_cannot_be_read_is_a_problem() -> None:
    """It is reported by name; using it is an error with the same sentence."""
    settings = _Timed(wait="soon")
    ((key, sentence),) = settings.duration_problems("wait", values.is_positive, "must be longer")
    assert key == "wait"
    assert "'soon' is not a duration" in sentence
    with pytest.raises(ValueError, match="'soon' is not a duration"):
        settings.seconds("wait")


@pytest.mark.parametrize(
    ("keys", "key", "expected"),
    [
        ({"wait": "0s"}, "wait", [("wait", "must be longer")]),
        ({"wait": ""}, "wait", [("wait", "'' is not a duration")]),
        ({"wait": "1ms"}, "wait", []),
        ({"keep": ""}, "keep", []),
        ({"keep": "0s"}, "keep", [("keep", "must be longer")]),
    ],
)
def test_a_duration_out_of_bounds_is_a_problem(keys: dict[str, str], key: str, expected: list[tuple[str, str]]) -> None:
    """An empty one only where it has no meaning of its own."""
    found = [
        (name, sentence.partition(";")[0])
        for name, sentence in _Timed(**keys).duration_problems(key, values.is_positive, "must be longer")
    ]
    assert found == expected

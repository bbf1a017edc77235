"""Where the collector's own files lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from prefork_logd.config import paths


def test_the_state_of_root_is_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever HOME says."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("HOME", "/root")
    assert paths.default_state_dir() == "/var/lib/prefork-logd"


def test_the_state_of_a_user_is_the_users_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the XDG base directory specification has it."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert paths.default_state_dir() == "/home/ann/.local/state/prefork-logd"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert paths.default_state_dir() == "/state/prefork-logd"


@pytest.mark.parametrize("found", ["~/.local/state/prefork-logd", "relative/prefork-logd", ""])
def test_a_home_that_is_not_known_is_an_error(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    """It names the user and what to do, and no directory called ~ is made."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(paths.platformdirs, "user_state_dir", lambda _: found)
    with pytest.raises(ValueError, match="home directory of user 1000 is not known; set HOME, or give --state-dir"):
        paths.default_state_dir()


def test_a_home_that_cannot_be_found_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Newer releases of platformdirs raise."""

    def fail(_: str) -> str:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(paths.platformdirs, "user_state_dir", fail)
    with pytest.raises(ValueError, match="set HOME"):
        paths.default_state_dir()


def test_each_store_has_dead_letters_of_its_own() -> None:
    """Beside the collector's other files, and under none of their names."""
    found = paths.dead_letters_path(Path("/state"), "days")
    assert found == Path("/state/dead-letters-days.jsonl")
    assert found.name not in paths.OWN_FILES


def test_no_file_has_two_purposes() -> None:
    """Each name is given once."""
    assert len(set(paths.OWN_FILES)) == len(paths.OWN_FILES)
    assert all(os.sep not in name for name in paths.OWN_FILES)

"""Who asks, and the server's time zone."""

from __future__ import annotations

import zoneinfo
from typing import TYPE_CHECKING

from prefork_logd.web.api import session

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.support.page import Client


def test_the_session_names_the_user(client: Client) -> None:
    """The answer has the user, the role and the time."""
    found = client.get("/session").json()
    assert (found["user"], found["role"], found["csrf"]) == ("tester", "admin", "")
    assert found["server_time"] > 1.7e9


def test_the_zone_has_a_name_or_an_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link into the system's zones is a name; anything else an offset."""
    (tmp_path / "zoneinfo" / "Europe").mkdir(parents=True)
    (tmp_path / "zoneinfo" / "Europe" / "Rome").touch()
    (tmp_path / "localtime").symlink_to(tmp_path / "zoneinfo" / "Europe" / "Rome")
    monkeypatch.setattr(session, "LOCALTIME", tmp_path / "localtime")
    assert zoneinfo.ZoneInfo(session.server_zone())
    monkeypatch.setattr(session, "LOCALTIME", tmp_path / "absent")
    assert session.server_zone().startswith("UTC")

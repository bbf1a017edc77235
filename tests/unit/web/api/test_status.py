"""The state of the collector, its configuration, and what it has rejected."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.paths import REJECTED_FILE
from prefork_logd.errors import ProcessError
from prefork_logd.records.render import render_gap, render_rejected
from prefork_logd.web.api import status
from tests.support import page
from tests.support.page import Anybody, Client, make_page, make_settings

if TYPE_CHECKING:
    from pathlib import Path


def entries(count: int, peer: str = "10.0.0.7:4000") -> bytes:
    """Return entries about rejected records."""
    return b"".join(
        render_rejected(peer, 100.0 + number, "frame-length", f"{number}", b"\x80", 7) for number in range(count)
    )


def test_the_state_has_disks_bounds_and_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the document of `status --json`."""

    async def collector() -> dict[str, Any]:
        return {"version": "1.2.3", "journal": {"bytes": 5}}

    monkeypatch.setattr(page, "no_status", collector)
    gaps = b"".join(
        render_gap("10.0.0.9:1", *one)
        for one in ((200.5, "cart on web-1", 5, "early"), (300.5, "other", 2, "x"), (400.5, "cart on web-1", 7, "late"))
    )
    (tmp_path / REJECTED_FILE).write_bytes(
        entries(3) + entries(1, "[2001:db8::1]:9") + entries(1, "unix") + gaps + b'{"torn'
    )
    settings = make_settings(tmp_path, '[[store]]\ntype = "parquet"\nretain = "7d"\nretain_bytes = 1_000_000_000\n')
    with contextlib.closing(Client(make_page(settings))) as client:
        found = client.get("/status").json()
    assert found["collector"] == {"version": "1.2.3", "journal": {"bytes": 5}}
    (disk,) = found["disks"]
    assert disk["path"] == str(tmp_path)
    assert "state_dir" in disk["purposes"]
    assert 0 < disk["free_bytes"] <= disk["total_bytes"]
    (bounds,) = found["retention"]
    assert bounds["store"] == "parquet"
    assert (bounds["bounds"]["retain"], bounds["bounds"]["retain_bytes"]) == ("7d", 1_000_000_000)
    assert found["dropped_by"] == [
        {"client": "cart on web-1", "count": 12, "latest": 400.5, "detail": "late"},
        {"client": "other", "count": 2, "latest": 300.5, "detail": "x"},
    ]
    assert found["rejected_by"] == [
        {"client": "10.0.0.7", "reason": "frame-length", "count": 3},
        {"client": "unix", "reason": "frame-length", "count": 1},
        {"client": "[2001:db8::1]", "reason": "frame-length", "count": 1},
    ]


def test_a_collector_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer is its error."""

    async def collector() -> dict[str, Any]:
        raise ProcessError("the master does not answer")

    monkeypatch.setattr(page, "no_status", collector)
    with contextlib.closing(Client(make_page(make_settings(tmp_path)))) as client:
        answer = client.get("/status")
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the master does not answer"


def test_the_newest_rejected_records_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a bounded part of the file; a part that is no entry is left out."""
    (tmp_path / REJECTED_FILE).write_bytes(b"no entry\n" + entries(5))
    with contextlib.closing(Client(make_page(make_settings(tmp_path)))) as client:
        found = client.get("/rejected", limit=2).json()["entries"]
        assert [entry["detail"] for entry in found] == ["4", "3"]
        assert found[0]["peer"] == "10.0.0.7:4000"
        assert len(client.get("/rejected").json()["entries"]) == 5
        monkeypatch.setattr(status, "REJECTED_BYTES", len(entries(3)) - 10)
        assert [one["detail"] for one in client.get("/rejected").json()["entries"]] == ["4", "3"]
        (tmp_path / REJECTED_FILE).unlink()
        assert client.get("/rejected").json() == {"entries": []}
        (tmp_path / REJECTED_FILE).symlink_to("/etc/hostname")
        assert client.get("/rejected").json() == {"entries": []}


def test_the_configuration_has_no_secrets(tmp_path: Path) -> None:
    """It is a whole configuration; passwords are hidden."""
    text = '[[store]]\ntype = "postgresql"\ndsn = "host=db password=geheim"\n'
    with contextlib.closing(Client(make_page(make_settings(tmp_path, text)))) as client:
        found = client.get("/configuration").json()
    assert found["path"] == str(tmp_path / "prefork-logd.toml")
    assert "geheim" not in found["toml"]
    assert "***" in found["toml"]
    assert msgspec.toml.decode(found["toml"])["server"]["state_dir"] == str(tmp_path)
    assert loads(found["toml"].replace("host = 'db' password = ***", "")).server.state_dir == str(tmp_path)


def test_viewers_and_shares_see_less(tmp_path: Path) -> None:
    """Configuration and rejected records are for admins."""
    with contextlib.closing(Client(make_page(make_settings(tmp_path), Anybody(("view",))))) as client:
        assert client.get("/status").status_code == 200
        for path in ("/configuration", "/rejected"):
            assert client.get(path).status_code == 403
    shared = Anybody(("view",), bounds=object())
    with contextlib.closing(Client(make_page(make_settings(tmp_path), shared))) as client:
        answer = client.get("/status")
        assert answer.status_code == 403
        assert "share link" in answer.json()["error"]["message"]

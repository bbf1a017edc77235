"""The tables of `status`, without colour where they are not printed to a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.cli.print_status import print_status

if TYPE_CHECKING:
    import pytest

DOCUMENT = {
    "version": "1.2.3",
    "pid": 7,
    "uptime_s": 3723.4,
    "native": False,
    "bind": ["[::1]:9020"],
    "records": 1_234_567,
    "connections": 12,
    "rejected": 3,
    "dropped": 0,
    "children": [
        {"kind": "writer", "index": 0, "pid": 8, "state": "running", "connections": 0, "records": 0, "paused": True,
         "restarts": 0},
        {"kind": "worker", "index": 1, "pid": None, "state": "waiting", "connections": 12, "records": 99,
         "paused": False, "restarts": 4},
        {"kind": "shipper", "index": 0, "pid": 9, "state": "running", "connections": 0, "records": 0, "paused": False,
         "restarts": 0, "store": "parquet"},
    ],
    "outputs": [{"name": "all", "path": "/x/[brackets]/all.jsonl", "records": 5, "bytes": 1000, "failing": True,
                 "skipped": 1234}],
    "journal": {"bytes": 7_000_000, "limit": 8_000_000, "full": True},
    "stores": [
        {"name": "parquet", "type": "parquet", "records": 1_000_000, "refused": 2, "lost": 0, "failing": False,
         "lag_records": 234_567, "lag_bytes": 98_765_432, "lag_s": 61.2},
        {"name": "archive", "type": "custom", "records": 0, "refused": 0, "lost": 0, "failing": True,
         "lag_records": None, "lag_bytes": None, "lag_s": 0.0, "problem": "disk [full]"},
        {"name": "lake", "type": "nats", "records": 7, "refused": 0, "lost": 0, "failing": False,
         "lag_records": 0, "lag_bytes": 0, "lag_s": 0.0, "problem": "",
         "details": {"summary": "stream LOGS, 2 of 3 replicas in step, duplicate window 10 min 0 s", "replicas": 3,
                     "warnings": ["replicas away or behind: 1 of 3"]}},
    ],
    "sources": [
        {"type": "nats", "stream": "LOGS", "group": "site", "records": 4_321, "rejected": 0, "dropped": 1_717,
         "connected": True, "messages_waiting": 8_642, "lag_s": 75.0, "problem": "",
         "details": {"member": "a", "partitions": [0, 1, 2], "partitions_of_stream": 16,
                     "waiting_for_members": {"bcd": 13}}},
        {"type": "nats", "stream": "FAR", "group": "site", "records": 0, "rejected": 0, "dropped": 0,
         "connected": False, "messages_waiting": None, "lag_s": None, "problem": "cannot [connect]", "details": {}},
    ],
}  # fmt: skip


def test_status_shows_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    """Its addresses, or why there is none; older collectors have none."""
    print_status({**DOCUMENT, "page": {"urls": ["http://[::1]:1/?token=[x]"], "problem": ""}})
    assert "page at http://[::1]:1/?token=[x]" in capsys.readouterr().out
    print_status({**DOCUMENT, "page": {"urls": [], "problem": "taken [by another]"}})
    assert "no page: taken [by another]" in capsys.readouterr().out
    print_status(DOCUMENT)
    assert "page" not in capsys.readouterr().out


def test_status_names_processes_as_ps_does(capsys: pytest.CaptureFixture[str]) -> None:
    """The child that is "web" in the document is the page for people; the groups of errors are no store."""
    page = {"kind": "web", "index": 0, "pid": 77, "state": "running", "connections": 0, "records": 0, "paused": False,
            "restarts": 0}  # fmt: skip
    print_status({**DOCUMENT, "children": [page], "errors": {"name": "errors", "details": {"summary": "1 group"}}})
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["page", "77", "running", "0"] in lines
    assert ["errors:", "1", "group"] in lines


def test_status_shows_what_matters_without_colour_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Every process and output has a row; no escape sequence goes into a file."""
    print_status(DOCUMENT)
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert not [line for line in text.split("\n") if line.endswith(" ")]
    for part in ("1,234,567 records", "3 rejected", "[::1]:9020", "worker 1", "waiting for outputs",
                 "all (failing) (1,234 skipped)",
                 "/x/[brackets]/all.jsonl", "up 1 h 2 min", "shipper parquet", "234,567", "98,765,432", "1 min 1 s",
                 "archive (failing)", "the journal is full",
                 "store archive: disk [full]", "2 of 3 replicas in step, duplicate window 10 min 0 s",
                 "store lake: replicas away or behind: 1 of 3",
                 "3 of 16", "4,321", "1,717", "8,642", "1 min 15 s", "FAR (not connected)",
                 "source LOGS: member bcd is away, with 13 partitions",
                 "source FAR: cannot [connect]"):  # fmt: skip
        assert part in text


def test_status_shows_limits_and_samples(capsys: pytest.CaptureFixture[str]) -> None:
    """If there is anything to show."""
    print_status(DOCUMENT | {"sampled": 1_200, "limited": 3, "limit_dropped": 4_500})
    out = capsys.readouterr().out
    assert "0 dropped, 1,200 not kept by a sample\nclients beyond a limit: 3; dropped 4,500 records of them" in out
    print_status(DOCUMENT | {"sampled": 0, "limited": 0, "limit_dropped": 4_500})
    out = capsys.readouterr().out
    assert "sample" not in out
    assert "limit" not in out


def test_status_shows_what_each_limit_has_done(capsys: pytest.CaptureFixture[str]) -> None:
    """One that has done nothing has no line."""
    idle = {"name": "idle", "clients": 0, "dropped": 0, "waits": 0, "waited_s": 0.0, "refused": 0, "closed": 0}
    busy = {"name": "busy", "clients": 1, "dropped": 2_000, "waits": 9, "waited_s": 75.0, "refused": 3, "closed": 1}
    print_status(DOCUMENT | {"limits": [idle, busy]})
    out = capsys.readouterr().out
    assert (
        "limit busy: 1 client beyond it now, 2,000 records dropped, connections waited 1 min 15 s in all, "
        "3 connections without a place, 1 connection closed because of memory\n"
    ) in out
    assert "idle" not in out


def test_status_shows_alerts(capsys: pytest.CaptureFixture[str]) -> None:
    """Where there are rules, and why they are not evaluated."""
    print_status(DOCUMENT)
    assert "alerts" not in capsys.readouterr().out
    counts = {"rules": 1, "firing": 2, "waiting": 1_000, "problem": "disk [full]"}
    print_status({**DOCUMENT, "alerts": counts})
    text = capsys.readouterr().out
    assert "alerts: 1 rule, 2 firing, 1,000 notices waiting\nalerts: disk [full]\n" in text

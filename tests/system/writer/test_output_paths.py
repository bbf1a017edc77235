"""Outputs whose paths have fields: each record is once in its file, whoever dies and whatever clients send."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.config.output_paths import value_name
from prefork_logd.handlers.socket_handler import SocketHandler
from tests.support.harness import frame, frames, wait_for
from tests.support.session_client import Spread
from tests.support.tracer import kill_at, needs_strace, traced

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]


def stored(logs: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the records of each file, by its path below the directory; each file ends with a whole line."""
    found = {}
    for path in sorted(logs.rglob("*")):
        if path.is_file() and path.stat().st_size:
            data = path.read_bytes()
            assert data.endswith(b"\n"), path
            found[str(path.relative_to(logs))] = [json.loads(line) for line in data.splitlines()]
    return found


def check_spread(logs: Path, clients: list[Spread]) -> None:
    """See that each record is once in the right file, in order."""
    numbers: dict[str, list[int]] = {client.name: [] for client in clients}
    for name, records in stored(logs).items():
        assert {record["name"] for record in records} == {name.split("/")[0]}
        found = [int(record["message"].rpartition("-")[2]) for record in records]
        assert found == sorted(found), name
        numbers[records[0]["message"].rpartition("-")[0]] += found
    for client in clients:
        assert sorted(numbers[client.name]) == list(range(1, client.sent + 1)), client.name


def test_services_have_files_of_a_day(make_collector: Maker) -> None:
    """Two services with our handler: file names, status and the effective configuration."""
    collector = make_collector(
        '[[output]]\nname = "services"\npath = "logs/{service}/{logger}-{date}.jsonl"\n', "--workers", "1"
    ).start()
    before = time.gmtime()
    for service in ("shop", "cart/2"):
        handler = SocketHandler(*collector.address(), service=service)
        for name in ("a", "a.b"):
            for number in range(5):
                handler.handle(logging.LogRecord(name, logging.INFO, "x.py", 1, "n%d", (number,), None))
        assert handler.flush(20)
        handler.close()
    days = {time.strftime("%Y-%m-%d", when) for when in (before, time.gmtime())}
    found = stored(collector.state_dir / "logs")
    assert {name.rpartition("-")[0][:-8] for name in found} == {
        f"{service}/{name}" for service in ("shop", "cart%2F2") for name in ("a", "a.b")
    }
    assert {name[-16:-6] for name in found} <= days
    assert all([record["message"] for record in records] == [f"n{n}" for n in range(5)] for records in found.values())
    (output,) = collector.status()["outputs"]
    assert (output["records"], output["open_files"], output["overflowed"]) == (20, 4, 0)
    assert "(4 files open)" in collector.cli("status").stdout
    assert "logs/{service}/{logger}-{date}.jsonl" in collector.cli("check").stdout
    tail = collector.cli("tail", "-n", "7", "--format", "json")
    assert [json.loads(line)["message"] for line in tail.stdout.splitlines()] == [
        "n3",
        "n4",
        *(f"n{n}" for n in range(5)),
    ]


@pytest.mark.parametrize("most", [4, 256])
def test_a_writer_that_is_killed_again_and_again(make_collector: Maker, most: int) -> None:
    """Each record is once in the right file, with files that are closed and opened in between."""
    collector = make_collector(
        f'[[output]]\npath = "logs/{{logger}}/all.jsonl"\nmax_open_files = {most}\n', "--workers", "2"
    ).start()
    clients = [Spread(collector, name) for name in ("a", "b", "c")]
    threads = [threading.Thread(target=client.log, args=(200, 7)) for client in clients]
    for thread in threads:
        thread.start()
    for _ in range(4):
        os.kill(collector.child("writer"), signal.SIGKILL)
    for thread, client in zip(threads, clients, strict=True):
        thread.join()
        client.close()
    assert collector.stop() in (0, 1)
    check_spread(collector.state_dir / "logs", clients)


@needs_strace
@pytest.mark.parametrize(
    ("syscall", "most"),
    [("openat", 5), ("writev", 3), ("fdatasync", 4), ("pwrite64", 4), ("pwritev2", 2), ("close", 2)],
)
def test_the_writer_killed_at_each_step(make_collector: Maker, tmp_path: Path, syscall: str, most: int) -> None:
    """Killed before its N-th call of a kind, while it opens and closes files in each turn."""
    collector = make_collector('[[output]]\npath = "logs/{logger}/all.jsonl"\nmax_open_files = 2\n').start()
    client = Spread(collector, "a")
    for when in range(1, most + 1):
        client.log(3, batch=1)
        before = collector.child("writer")
        with traced(before, tmp_path / "trace", *kill_at(syscall, when)) as tracer:
            client.log(10, batch=3)
            assert tracer.has_ended, f"{syscall} was not called {when} times"
    client.close()
    assert collector.stop() in (0, 1)
    check_spread(collector.state_dir / "logs", [client])


def test_many_services_and_few_open_files(make_collector: Maker) -> None:
    """300 services on one connection, 16 open files: no record is in another's file, and no descriptor too many."""
    collector = make_collector(
        '[[output]]\npath = "logs/{service}.jsonl"\nmax_open_files = 16\n', "--workers", "1"
    ).start()
    fds = Path(f"/proc/{collector.child('writer')}/fd")
    before = len(list(fds.iterdir()))
    highest = 0
    with collector.connect() as sock:
        for turn in range(10):
            lines = (
                json.dumps({"message": f"m{turn}", "level": "INFO", "name": "x", "service": f"s{number}"})
                for number in range(300)
            )
            sock.sendall("".join(f"{line}\n" for line in lines).encode())
            highest = max(highest, len(list(fds.iterdir())))
    wait_for(lambda: collector.status()["outputs"][0]["records"] == 3000, "3000 records")
    found = stored(collector.state_dir / "logs")
    assert {name: [record["message"] for record in records] for name, records in found.items()} == {
        f"s{number}.jsonl": [f"m{turn}" for turn in range(10)] for number in range(300)
    }
    assert highest <= before + 17
    assert collector.status()["outputs"][0]["open_files"] <= 16
    assert collector.stop() == 0


HOSTILE = (
    *("../../etc/passwd", "..", ".", "/etc/cron.d/x", "a/../../b", ".ssh", "\u202ereversed", "new\nline", "tab\t"),
    *(
        "x" * 5000,
        "\u00fc" * 200,
        "_other",
        "_none",
        "%2E%2E",
        "a.jsonl.20261129T000000Z.000001",
        "shop ",
        "~",
        "$(id)",
    ),
)


def test_hostile_names_stay_in_the_directory(make_collector: Maker) -> None:
    """Whatever a client calls its loggers: each has one file, below the directory, and a limited number of them."""
    collector = make_collector(
        f'[[output]]\nname = "some"\npath = "logs/{{logger}}.jsonl"\nmax_new_files = {2 * len(HOSTILE)}\n',
        "--workers",
        "1",
    ).start()
    outside = {path for path in collector.state_dir.parent.rglob("*") if "logs" not in path.parts}
    with collector.connect() as sock:
        for name in HOSTILE:
            sock.sendall(frames(["one", "two"], name=name))
        wait_for(lambda: collector.status()["outputs"][0]["records"] == 2 * len(HOSTILE), "all records")
        sock.sendall(b"".join(frame("more", name=f"flood{number}") for number in range(500)))
        wait_for(lambda: collector.status()["outputs"][0]["records"] == 2 * len(HOSTILE) + 500, "the flood")
    found = stored(collector.state_dir / "logs")
    assert Counter({name: len(records) for name, records in found.items()}) == {
        **{f"{value_name(name)}.jsonl": 2 for name in HOSTILE}, "_other.jsonl": 500,
    }  # fmt: skip
    assert {path for path in collector.state_dir.parent.rglob("*") if "logs" not in path.parts} <= {
        *outside, *collector.state_dir.rglob("journal/*"),
    }  # fmt: skip
    (output,) = collector.status()["outputs"]
    assert output["overflowed"] == 500
    assert "(500 overflowed)" in collector.cli("status").stdout
    assert collector.log.count("of which one client gets half") == 1
    assert collector.stop() == 0


def test_a_reload_that_changes_the_pattern(make_collector: Maker) -> None:
    """Under load, to paths that lead to the same files, and back: each record is once in one of them."""
    paths = "{logger}/all.jsonl", "{logger}/{level}.jsonl", "{logger}/INFO.jsonl"
    tomls = [f'[[output]]\npath = "logs/{path}"\n' for path in paths]
    collector = make_collector(tomls[0], "--workers", "2").start()
    clients = [Spread(collector, name) for name in ("a", "b")]
    threads = [threading.Thread(target=client.log, args=(200, 5)) for client in clients]
    for thread in threads:
        thread.start()
    for number in range(1, 7):
        collector.configure(tomls[number % 3])
        assert collector.cli("reload").returncode == 0
        (collector.state_dir / "logs" / f"a.l{number}").mkdir(exist_ok=True, parents=True)
    for thread, client in zip(threads, clients, strict=True):
        thread.join()
        client.close()
    assert collector.stop() == 0
    numbers: dict[str, list[int]] = {"a": [], "b": []}
    for name, records in stored(collector.state_dir / "logs").items():
        for record in records:
            assert record["name"] == name.split("/")[0]
            client_name, _, number = record["message"].rpartition("-")
            numbers[client_name].append(int(number))
    for client in clients:
        assert sorted(numbers[client.name]) == list(range(1, client.sent + 1))


def test_past_days_are_compressed_and_removed(make_collector: Maker) -> None:
    """Also those of services that no longer send."""
    collector = make_collector(
        '[[output]]\npath = "logs/{service}-{date}.jsonl"\ncompress = "gzip"\nkeep_for = "10d"\n', "--workers", "1"
    )
    logs = collector.state_dir / "logs"
    logs.mkdir(parents=True)
    now_s = time.time()
    for name, days in (("gone-2026-01-01.jsonl", 20), ("gone-2026-01-02.jsonl", 2)):
        (logs / name).write_text("{}\n")
        os.utime(logs / name, (now_s - days * 86_400,) * 2)
    collector.start()
    wait_for(lambda: [path.suffix for path in logs.iterdir()] == [".gz"], "one compressed file")
    assert next(logs.iterdir()).name.startswith("gone-2026-01-02.jsonl.")
    with collector.connect() as sock:
        sock.sendall(b'{"message": "m", "level": "INFO", "name": "x"}\n')
    wait_for(lambda: len(list(logs.glob("_none-*.jsonl"))) == 1, "the file of today")
    assert collector.stop() == 0

"""The power fails, at any moment: what was acknowledged is there, nothing is there twice, and no line is torn."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import threading
import time
from typing import TYPE_CHECKING

from prefork_logd.config.load import loads
from prefork_logd.config.paths import JOURNAL_DIRECTORY
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.ipc.scoreboard import Scoreboard
from prefork_logd.journal.journal import Journal
from prefork_logd.processes.writer.outputs import Outputs
from tests.support import power
from tests.support.harness import frame, wait_for
from tests.support.session_client import Spread
from tests.support.tracer import needs_strace, traced

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector
    from tests.support.power import Cut

_MESSAGE = re.compile(rb'"message":"([a-z0-9]+)-(\d{7})"')
_OUTPUTS = """
[[output]]
path = "{state_dir}/records.jsonl"
[[output]]
path = "{state_dir}/own.jsonl"
rotate_bytes = 15000
keep = 0
[[output]]
path = "{state_dir}/spread-{{logger}}.jsonl"
max_open_files = 3
"""


PLAIN = "plain"
TURNS = 3
PLAIN_RECORDS = 20 * TURNS
PLAIN_LAST = f'"message":"{PLAIN}-{PLAIN_RECORDS:07d}"'.encode()


def send_plain(sock: socket.socket, numbers: range, paced: float = 0.004) -> None:
    """Log records as the standard library's handler does, without asking what became of them."""
    for number in numbers:
        sock.sendall(frame(f"{PLAIN}-{number:07d}"))
        time.sleep(paced)


def record(collector: Collector, tmp_path: Path) -> tuple[list[power.Step], power.Replay]:
    """Let clients log while the writer is killed and files are renamed; return what happened to the disk."""
    clients = [Spread(collector, name) for name in ("a", "b", "c")]
    for client in clients:
        # Each further file has a name to be lost, and so makes many moments to be tried.
        client.loggers = 1
        client.log(2)
        client.close()
    replay = power.Replay(collector.state_dir)
    pids = [child["pid"] for child in collector.status()["children"]]
    more = [option for pid in pids for option in ("-p", str(pid))]
    assert collector.process is not None
    with (
        traced(collector.process.pid, tmp_path / "trace", *power.OPTIONS, *more) as tracer,
        collector.connect() as sock,
    ):
        for turn in range(TURNS):
            # The last plain records come after the file was renamed, however slow the others are.
            numbers = range(1 + turn * PLAIN_RECORDS // TURNS, 1 + (turn + 1) * PLAIN_RECORDS // TURNS)
            threads = [threading.Thread(target=client.log, args=(15, 3)) for client in clients]
            threads.append(threading.Thread(target=send_plain, args=(sock, numbers)))
            for thread in threads:
                thread.start()
            if turn == 1:
                (collector.state_dir / "records.jsonl").rename(collector.state_dir / "records.jsonl.1")
                collector.send_signal(signal.SIGHUP)
                time.sleep(0.03)
                writer = collector.child("writer")
                tracer.stop(writer)
                os.kill(writer, signal.SIGKILL)
            for thread in threads:
                thread.join()
        wait_for(lambda: PLAIN_LAST in (collector.state_dir / "records.jsonl").read_bytes(), "the last plain record")
        # Nothing may happen to the disk between the last line of the trace and the look at it.
        writer = collector.child("writer")
        tracer.stop(writer)
    steps = list(power.read_trace(tracer.lines(), collector.state_dir))
    # What this process did is not in the trace.
    path = str(collector.state_dir / "records.jsonl")
    later = (n for n, step in enumerate(steps) if step.path == f"{path}.1" or step[:2] == ("create", path))
    steps.insert(next(later), power.Step("rename", path, data=f"{path}.1".encode()))
    replay.foresee(steps)
    os.kill(writer, signal.SIGCONT)
    for client in clients:
        client.close()
    return steps, replay


_BOARD = Scoreboard()
"""One for all recoveries: each would hold descriptors to its end."""


def check(cut: Cut, state_dir: Path, to: Path) -> int:
    """Recover from what is there, as a writer does, and compare; return how many records of a plain client are left."""
    power.put(cut, state_dir, to)
    settings = loads(_OUTPUTS.format(state_dir=to), overrides={"state_dir": str(to)})
    outputs = Outputs(_BOARD)
    journal = Journal(to / JOURNAL_DIRECTORY)
    outputs.configure(Configuration(1, settings, tuple(range(1, len(settings.output) + 1))))
    outputs.recover(journal.committed)
    outputs.close()
    committed = {session[-1:].decode(): entry.committed for session, entry in journal.sessions._entries.items()}
    for session, number in cut.acknowledged.items():
        assert committed.get(session[-1:].decode(), 0) >= number, "an acknowledged record is not committed"
    kept = 0
    for name in ("records.jsonl*", "own.jsonl*", "spread-*.jsonl*"):
        found: dict[str, list[int]] = {}
        for path in to.glob(name):
            data = path.read_bytes()
            for line in data.splitlines():
                if _is_record(line):
                    for client, number in _MESSAGE.findall(line):
                        found.setdefault(client.decode(), []).append(int(number))
                # Else it is what of a plain record, never synced, has reached the disk: the comparison below shows
                # that it is none of an acknowledged client's.
        stored = {client: sorted(numbers) for client, numbers in found.items()}
        # Of a plain client what was not synced may be lost, or be there in part.
        plain = stored.pop(PLAIN, [])
        # In a file of its own nothing of it is ever synced.
        kept = kept if name.startswith("spread") else len(plain)
        assert len(set(plain)) == len(plain), f"{name}: a plain record is there twice"
        assert stored == {client: list(range(1, number + 1)) for client, number in committed.items() if number}, name
    return kept


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


@needs_strace
def test_the_power_fails_at_any_moment(make_collector: Callable[..., Collector], tmp_path: Path) -> None:
    """At every sync and acknowledgement, and in between: nothing acknowledged is lost, all that is committed is there
    once, though of what was not synced any part may have reached the disk.
    """  # noqa: D205 - the sentence needs two lines
    state_dir = tmp_path / "state"
    collector = make_collector(_OUTPUTS.format(state_dir=state_dir), "--workers", "2").start()
    steps, replay = record(collector, tmp_path)
    assert collector.stop() == 0
    kinds = [step.kind for step in steps]
    assert kinds.count("ack") > 15, kinds
    assert kinds.count("rename") > 2
    chance = random.Random(4)
    # A name changes seldom, and there is most to be done wrong: those moments are all tried, of the others some.
    changes = [number for number, step in enumerate(steps) if step.kind in ("create", "rename", "unlink")]
    near = {number for change in changes for number in range(change - 2, change + 11)}
    tried = plain = 0
    for number, step in enumerate(steps):
        replay.take(step)
        if number in near or chance.random() < 0.1:
            cuts = (None, chance) if number % 3 else (chance,)
            for cut in cuts:
                plain = check(replay.cut(cut), state_dir, tmp_path / "cut")
                shutil.rmtree(tmp_path / "cut")
            tried += len(cuts)
    assert tried > 100
    assert plain > PLAIN_RECORDS // 2, "what is synced of a plain client stays"

"""The command line works from any host: the same records, byte for byte, and a tail that survives the page."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from tests.support.harness import Collector, frames, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Maker = Callable[..., Collector]

TOML = '[server]\nbind = ["127.0.0.1:0"]\nworkers = 1\n[[store]]\ntype = "parquet"\n[web]\nbind = ["127.0.0.1:0"]\n'


def _send(collector: Collector, first: int, count: int) -> None:
    with collector.connect() as sock:
        sock.sendall(frames(f"record {number} \u20ac" for number in range(first, first + count)))


def test_a_query_from_afar_is_a_query(make_collector: Maker, tmp_path: Path) -> None:
    """Of records in the journal; the tail has each record once, also while the page is killed."""
    collector = make_collector(TOML).start()
    server = f"http://{collector.status()['page']['bind'][0]}"
    token = tmp_path / "token"
    token.write_text(collector.cli("web", "token", "far").stdout)
    far = ("--server", server, "--token-file", str(token), "--format", "json")
    _send(collector, 0, 50)
    wait_for(lambda: collector.cli("query", "--count").stdout == "50\n", "50 records in the store")
    near = collector.cli("query", "--format", "json", "record")
    assert near.stdout.count("\n") == 50
    assert collector.cli("query", *far, "record").stdout == near.stdout
    path = tmp_path / "tailed"
    with path.open("wb") as file:
        command = collector.command("tail", "-f", "-n", "10", *far)
        tail = subprocess.Popen(command, stdout=file, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: path.read_bytes().count(b"\n") == 10, "the latest records")
            _send(collector, 50, 20)
            wait_for(lambda: path.read_bytes().count(b"\n") == 30, "new records")
            pid = collector.child("web", 0)
            os.kill(pid, signal.SIGKILL)
            _send(collector, 70, 20)
            wait_for(lambda: collector.child("web", 0) != pid, "another page")
            _send(collector, 90, 10)
            wait_for(lambda: path.read_bytes().count(b"\n") >= 60, "every record")
        finally:
            tail.send_signal(signal.SIGINT)
            tail.wait(20)
    everything = collector.cli("query", "--format", "json").stdout.encode().splitlines(keepends=True)
    assert path.read_bytes().splitlines(keepends=True) == everything[40:]
    assert collector.stop() == 0

"""Does harm to a collector while services log through it: each kind by its name.

Owns the kinds and their steps. Does not know the services or the checks afterwards. Everything harmed works again a
moment later: stopped processes continue, full disks are freed, killed processes are started again.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.harness import NO_PAGE, wait_for

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence

    from tests.support.disks import Disk
    from tests.support.harness import Collector

OUTPUT = "records.jsonl"
"""In state_dir; renamed to OUTPUT.0, OUTPUT.1 and so on."""
SPARES_PLAIN = frozenset(
    {
        "SIGSTOP for a while",
        "a failing sync",
        "connections cut",
        "connections cut while a worker is stopped",
        "failing writes",
        "full disk",
        "kill -9 of the writer",
        "reload",
        "rotation",
        "rotation by SIGUSR1",
        "rotation, and kill -9 of the writer",
        "short writes",
        "upgrade",
        "worker count change",
    }
)
"""Kinds that lose no records, not even plain ones. Only connections of acknowledged services are cut."""
KILLED: set[int] = set()
"""Pids of all processes killed here: any other that ends has ended by itself."""


class Harm:
    """Every kind of harm to one collector."""

    def __init__(
        self,
        collector: Collector,
        chance: random.Random,
        disk: Disk | None = None,
        fault_file: Path | None = None,
        cut: Callable[[], None] = lambda: None,
        configurations: Sequence[str] = (),
    ) -> None:
        """`disk` has the state directory; `fault_file` is that of disks.SHIM, if it is preloaded; `cut` takes their
        connections from the services; a reload takes one of `configurations`.
        """  # noqa: D205 - the sentence needs two lines
        self._collector = collector
        self._random = chance
        self._disk = disk
        self._fault_file = fault_file
        self._cut = cut
        self._configurations = configurations
        self._renamed = 0
        self.kinds: dict[str, Callable[[], None]] = {
            "kill -9 of a worker": self._kill_worker,
            "kill -9 of the writer": self._kill_writer,
            "kill -9 of a worker and the writer": self._kill_worker_and_writer,
            "kill -9 of the master": self._kill_master,
            "kill -9 of all": self._kill_all,
            "SIGSTOP for a while": self._stop_a_while,
            "connections cut": cut,
            "connections cut while a worker is stopped": self._cut_while_stopped,
            "rotation": self._rename_and_reload,
            "rotation by SIGUSR1": self._rename_and_reopen,
            "rotation, and kill -9 of the writer": self._rename_and_kill,
            "worker count change": self._change_workers,
            "reload": self._reload,
            "upgrade": self._upgrade,
            "stop and start": self._restart,
            "fast stop and start": self._restart_fast,
            "kill -9 of all in a drain": self._kill_in_drain,
        }
        if disk is not None:
            self.kinds["full disk"] = self._fill
        if fault_file is not None:
            self.kinds |= {
                "failing writes": self._fail_writes,
                "short writes": self._shorten_writes,
                "a failing sync": self._fail_sync,
            }

    def _children(self, kind: str = "") -> list[int]:
        children = self._collector.status()["children"]
        return [child["pid"] for child in children if child["pid"] and kind in ("", child["kind"])]

    def _kill_one(self, kind: str) -> None:
        pids = self._children(kind)
        if pids:
            _kill(self._random.choice(pids))

    def _kill_worker(self) -> None:
        self._kill_one("worker")

    def _kill_writer(self) -> None:
        self._kill_one("writer")

    def _kill_worker_and_writer(self) -> None:
        kinds = ["worker", "writer"]
        self._random.shuffle(kinds)
        for kind in kinds:
            self._kill_one(kind)

    def _kill_master(self) -> None:
        process = self._collector.process
        assert process is not None
        _kill(process.pid)
        process.wait()
        self._collector.start()

    def _kill_all(self) -> None:
        process = self._collector.process
        assert process is not None
        # It has a process group of its own, with all children.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._collector.start()

    def _stop_a_while(self) -> None:
        pids = self._children(self._random.choice(("worker", "writer")))
        if pids:
            pid = self._random.choice(pids)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
                time.sleep(self._random.uniform(0.05, 0.3))
                os.kill(pid, signal.SIGCONT)

    def _cut_while_stopped(self) -> None:
        """Make clients change to another worker while their bytes are still unread by the first."""
        pids = self._children("worker")
        stopped = self._random.sample(pids, max(1, len(pids) // 2)) if pids else []
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        time.sleep(self._random.uniform(0, 0.02))
        self._cut()
        time.sleep(self._random.uniform(0.05, 0.2))
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _rename(self) -> None:
        path = self._collector.state_dir / OUTPUT
        if path.exists():
            path.rename(self._collector.state_dir / f"{OUTPUT}.{self._renamed}")
            self._renamed += 1

    def _rename_and_reload(self) -> None:
        self._rename()
        self._collector.send_signal(signal.SIGHUP)

    def _rename_and_reopen(self) -> None:
        self._rename()
        self._collector.send_signal(signal.SIGUSR1)

    def _rename_and_kill(self) -> None:
        pids = self._children("writer")
        self._rename_and_reload()
        time.sleep(self._random.uniform(0, 0.01))
        for pid in pids:
            _kill(pid)

    def _change_workers(self) -> None:
        few = len(self._children("worker")) < 2
        number = signal.SIGTTIN if few else self._random.choice((signal.SIGTTIN, signal.SIGTTOU, signal.SIGTTOU))
        self._collector.send_signal(number)

    def _reload(self) -> None:
        if self._configurations:
            # In one step: a partly written configuration may be valid, too.
            config = self._collector.config
            fresh = config.with_suffix(".new")
            toml = self._random.choice(self._configurations)
            # Without the default page: several tortures share this host, and one default address.
            fresh.write_text(toml if "[web" in toml else f"{toml}{NO_PAGE}")
            fresh.replace(config)
        self._collector.send_signal(signal.SIGHUP)

    def _upgrade(self) -> None:
        # Do not wait for its end: the next harm hits the trial, the exec or the migration.
        self._collector.send_signal(signal.SIGUSR2)

    def _restart(self, number: int = signal.SIGTERM) -> None:
        # The status is 1 if the master has not noticed a killed child yet.
        assert self._collector.stop(number) in (0, 1), self._collector.log
        self._collector.start()

    def _restart_fast(self) -> None:
        self._restart(signal.SIGQUIT)

    def _kill_in_drain(self) -> None:
        self._collector.send_signal(signal.SIGTERM)
        time.sleep(self._random.uniform(0, 0.06))
        self._kill_all()

    def _fill(self) -> None:
        assert self._disk is not None
        self._disk.fill(self._random.choice((0, 5000, 50_000)))
        time.sleep(self._random.uniform(0.02, 0.2))
        if self._random.random() < 0.3:
            self._kill_writer()
        self._disk.free()

    def _fail(self, *words: str) -> None:
        assert self._fault_file is not None
        self._fault_file.write_text(self._random.choice(words))
        time.sleep(self._random.uniform(0.02, 0.1))
        self._fault_file.unlink(missing_ok=True)

    def _fail_writes(self) -> None:
        self._fail("EIO", "EROFS", "EDQUOT")

    def _shorten_writes(self) -> None:
        self._fail("short", "torn", "EINTR")

    def _fail_sync(self) -> None:
        self._fail("sync")


def wait_until_whole(collector: Collector) -> None:
    """Wait until every child is at work."""

    def is_whole() -> bool:
        return all(child["state"] in ("running", "retiring") for child in collector.status()["children"])

    wait_for(is_whole, "every child at work again", 40)


def _kill(pid: int) -> None:
    KILLED.add(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

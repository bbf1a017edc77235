"""One throughput run: a live server, a generator, and the clock between its first byte and the last record in the file.

Owns when a run begins and ends and what is measured in between. Knows no server by name.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import _limit
from _generator import generator
from _processes import cpu_s, machine_busy_s, memory_bytes, started, stop, tree
from _records import Buffer, as_sessions, hello
from _report import warm_memory
from _servers import HOST, Live, Server, free_port, serving
from _verify import Count, count, count_bytes, marks

if TYPE_CHECKING:
    from pathlib import Path


_STEP_S = 0.002
_MEMORY_EVERY_S = 0.1
_QUIET_S = 0.15
"""No growth for this long, and every record there: the run is over."""
_LOST_S = 2.0
"""No growth for this long: what is not there does not come any more."""
_LATE_FLUSH_S = 0.4
"""The same for a server that keeps its last partial buffer until it is stopped: waiting brings nothing."""
_TIME_LIMIT_S = 90.0


@dataclass(frozen=True)
class Trial:
    """What one run gave."""

    server: str
    connections: int
    seconds: float
    """From the generator's first byte to the last growth of the output file."""
    sending_s: float
    """From the generator's first byte to its last, taken by the kernel."""
    cpu_s: float
    others_cpu_s: float
    """What the rest of the machine worked meanwhile: neither server nor generator nor this process."""
    watched_s: float
    peak_memory_bytes: int
    processes: int
    count: Count

    @property
    def records_per_s(self) -> float:
        """Records stored a second."""
        return self.count.stored / self.seconds

    @property
    def cpu_s_per_million(self) -> float:
        """CPU seconds of the server's tree for a million stored records."""
        return self.cpu_s / max(1, self.count.stored) * 1e6

    @property
    def others_cores(self) -> float:
        """How many cores the rest of the machine kept busy during the run: its noise."""
        return self.others_cpu_s / self.watched_s

    def as_dict(self) -> dict[str, Any]:
        """Return it for a results file."""
        return {
            **asdict(self),
            "records_per_s": round(self.records_per_s),
            "cpu_s_per_million": round(self.cpu_s_per_million, 3),
            "others_cores": round(self.others_cores, 3),
        }


class _Clocks(NamedTuple):
    """CPU seconds of everybody, and the wall's."""

    wall: float
    machine: float
    server: float
    generator: float
    own: float

    @classmethod
    def read(cls, server: int, generator: int) -> _Clocks:
        return cls(time.monotonic(), machine_busy_s(), cpu_s(server), cpu_s(generator), time.process_time())

    def since(self, before: _Clocks) -> _Clocks:
        return _Clocks(*(now - then for now, then in zip(self, before, strict=True)))


def run(
    server: Server, buffer: Buffer, records: int, connections: int, scratch: Path | None = None, copies: int = 1
) -> Trial:
    """Start the server, push the records through it, stop it and count what it stored.

    `copies` is how many times the server writes a record to some file, as far as it has memory warmed for that.
    """
    make = as_sessions if server.acknowledged else Buffer.shares
    shares = make(buffer, records, connections)
    warm_memory(sum(share.nbytes for share in shares) * copies * 5 // 4, scratch)
    # What the last run left to be written would take the disk from this one.
    os.sync()
    with serving(server, scratch) as live:
        return push(live, shares, records)


def push(live: Live, shares: list[memoryview], records: int) -> Trial:
    """Push shares through a live server, stop it, and count what it stored."""
    root = live.running.pid
    greeting = hello if live.server.acknowledged else None
    with generator(live.address, shares, greeting=greeting, tls_bytes=live.server.tls_bytes) as load:
        # Accepting is not part of what is timed.
        time.sleep(0.1 + len(shares) / 2000)
        before = _Clocks.read(root, load.pid)
        load.go()
        last_growth, peak = _watch(live, records)
        used = _Clocks.read(root, load.pid).since(before)
        processes = len(tree(root))
        times = load.times(0)
    stop(live.running.process)
    begin, sent = times or (last_growth, last_growth)
    if live.server.raw:
        stored = count_bytes(live.output, records, sum(share.nbytes for share in shares), live.warm_up_bytes)
    else:
        stored = count(live.output, records, live.server.check_line)
    return Trial(
        server=live.server.name,
        connections=len(shares),
        seconds=max(last_growth - begin, 1e-6),
        sending_s=sent - begin,
        cpu_s=used.server,
        others_cpu_s=max(0.0, used.machine - used.server - used.generator - used.own),
        watched_s=used.wall,
        peak_memory_bytes=peak,
        processes=processes,
        count=stored,
    )


def _watch(live: Live, records: int) -> tuple[float, int]:
    """Follow the size of the output until all is there or nothing more comes; return (last growth, peak memory).

    Only the size is looked at while the server works, so that the onlooker costs it next to nothing.
    """
    now = begin = last_growth = time.monotonic()
    size, looked, peak, next_memory, checked_size = -1, 0.0, 0, 0.0, -1
    while now - begin < _TIME_LIMIT_S:
        looked = live.output.stat().st_size if live.output.exists() else 0
        if looked != size:
            size, last_growth = looked, time.monotonic()
        quiet_s = now - last_growth
        if quiet_s > (_LATE_FLUSH_S if live.server.flushes_late else _LOST_S):
            break
        if quiet_s > _QUIET_S and size != checked_size:
            checked_size = size
            if live.server.raw or marks(live.output) >= records + live.warmed_up:
                break
        if now >= next_memory:
            next_memory, peak = now + _MEMORY_EVERY_S, max(peak, memory_bytes(live.running.pid))
            live.running.check()
        time.sleep(_STEP_S)
        now = time.monotonic()
    return last_growth, peak


def generator_rate(buffer: Buffer, records: int, connections: int, scratch: Path) -> float | None:
    """Return the records a second that the generator reaches into a program that only receives, or None without one."""
    program = _limit.program()
    if program is None:
        return None
    port = free_port()
    with (
        started([str(program), str(port)], scratch),
        generator((HOST, port), buffer.shares(records, connections), half_close=True) as load,
    ):
        load.go()
        times = load.times(30)
    if times is None:
        raise RuntimeError("the generator did not end in 30 s against a program that only receives")
    return records / (times[1] - times[0])

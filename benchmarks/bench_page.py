"""How soon the page shows the first records of a day in a browser, and what 200 tails cost the page and ingest.

Search: Enter is pressed in Chromium, and the clock stops at the first painted row. Needs chromium and playwright.
Tails: records come at a steady rate, all of them to every tail; the tails are read by a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import multiprocessing
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import _fleet_lines
import _report
import _servers
from _processes import cpu_s, memory_bytes, started, wait_until
from _report import Report, Spread, Target

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

QUERIES = (
    ("everything", ""),
    ("errors", "level>=ERROR"),
    ("a service", "service:checkout OR service:orders"),
    ("a number in extra", "status>=500"),
    ("a rare word", "rollback"),
    ("a word that no record has", "xyzzyplugh"),
)
FIRST_S, CORES, MEMORY_MB, KEPT = 0.5, 0.5, 150.0, 0.95
"""The targets: first records of everything, the page's cores and memory, and the part of the records that comes in."""
_PIECE_S = 0.02
_SETTLE_S = 2.0
_SUBMIT = """(text) => new Promise((resolve) => {
  document.getElementById("query").value = text;
  const results = document.getElementById("results");
  const began = performance.now();
  const shown = () => {
    if (!results.querySelector("tr.record:not(.placeholder), .state")) return;
    observer.disconnect();
    requestAnimationFrame(() => resolve(performance.now() - began));
  };
  const observer = new MutationObserver(shown);
  document.getElementById("query-form").requestSubmit();
  observer.observe(results, { childList: true, subtree: true, attributes: true });
})"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = _report.options(__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, help="records of the day (default: 2,000,000; short: 200,000)")
    parser.add_argument("--runs", type=int, help="times that each question is asked (default: 5; short: 3)")
    parser.add_argument("--tails", type=int, default=200)
    parser.add_argument("--rate", type=int, default=1_000, help="records a second (default: 1,000)")
    parser.add_argument("--seconds", type=float, help="length of a run of tails (default: 20; short: 5)")
    parser.add_argument("--only", choices=("search", "tails"))
    options = parser.parse_args(argv)
    options.records = options.records or (200_000 if options.short else 2_000_000)
    options.runs = options.runs or (3 if options.short else 5)
    options.seconds = options.seconds or (5.0 if options.short else 20.0)
    return options


class Running(NamedTuple):
    """A running collector with a page."""

    root: int
    """Process id of its master."""
    address: tuple[str, int]
    url: str
    command: list[str]
    """The command line, for a verb to be added."""

    def status(self) -> dict[str, Any]:
        """Return the document of `status --json`."""
        found: dict[str, Any] = json.loads(self._ask("status", "--json"))
        return found

    def token(self) -> str:
        """Return a new API token."""
        return self._ask("web", "token", "bench").split()[-1]

    def _ask(self, *words: str) -> str:
        command = [*self.command, *words]
        return subprocess.run(command, env=_servers.environment(), capture_output=True, text=True, check=True).stdout


@contextlib.contextmanager
def collecting(directory: Path) -> Iterator[Running]:
    """Run a collector with one worker, a Parquet store and the page, in this state directory."""
    port, page = _servers.free_port(), _servers.free_port()
    config = directory / "prefork-logd.toml"
    config.write_text(
        f'[server]\nworkers = 1\nbind = ["127.0.0.1:{port}"]\n[web]\nbind = ["127.0.0.1:{page}"]\n'
        f'[[store]]\ntype = "parquet"\nretain = ""\n[errors]\nenabled = false\n'
    )
    command = [sys.executable, "-P", "-m", "prefork_logd", "--config", str(config), "--state-dir", str(directory)]
    with started([*command, "run"], directory, _servers.environment()) as running:
        found = Running(running.pid, ("127.0.0.1", port), f"http://127.0.0.1:{page}", command)

        def is_ready() -> bool:
            running.check()
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", page), timeout=5).close()
                return True
            return False

        if not wait_until(is_ready, 30):
            raise RuntimeError(f"the page does not listen: {running.log.read_text()[-2000:]}")
        yield found


# Search


def measure_search(options: argparse.Namespace, report: Report) -> None:
    """Ask each question in a browser; report the time to the first painted row."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        report.skip("search: chromium or playwright is missing")
        return
    import bench_parquet  # noqa: PLC0415 - imports DuckDB
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as name:
        directory = Path(name)
        begin = time.monotonic()
        bench_parquet.fill(directory, options.records, start=time.time() - 86_400.0)
        report.results["fill_s"] = round(time.monotonic() - begin, 1)
        print(f"filled {options.records:,} records in {report.results['fill_s']:g} s", flush=True)
        with collecting(directory) as running, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            context = browser.new_context(viewport={"width": 1280, "height": 900})
            (url,) = running.status()["page"]["urls"]
            page = context.new_page()
            page.set_default_timeout(60_000)
            page.goto(url)
            page.goto(f"{running.url}/?since=all")
            times: dict[str, list[float]] = {what: [] for what, _ in QUERIES}
            for _ in range(options.runs):
                for what, text in QUERIES:
                    page.locator("#fields:not([aria-busy])").wait_for(state="attached")
                    times[what].append(page.evaluate(_SUBMIT, text) / 1e3)
            browser.close()
    spreads = {what: Spread.of(found) for what, found in times.items()}
    report.results["first_s"] = times
    rows = [(what, text or "(none)", spreads[what].text(".2f")) for what, text in QUERIES]
    report.table(f"First rows of {options.records:,} records of a day, s", ("search", "query", "Enter to paint"), rows)
    first = spreads["everything"]
    what, measured = "first records of a day in the browser", f"{first.text('.2f')} s"
    report.targets.append(Target(what, f"below {FIRST_S:g} s", measured, first.median < FIRST_S))


# Tails


async def _read(url: str, token: str, counts: list[int], index: int, ready: asyncio.Semaphore) -> None:
    """Follow one tail, and count its records."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 22)
    head = f"GET /api/v1/tail HTTP/1.1\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n"
    writer.write(head.encode())
    status = await reader.readline()
    if b" 200 " not in status:
        raise RuntimeError(f"a tail was refused: {status!r}")
    await reader.readuntil(b"event: start")
    ready.release()
    # A name may lie over the end of a piece.
    rest = b""
    while piece := await reader.read(1 << 18):
        data = rest + piece
        counts[index] += data.count(b"event: record\n")
        rest = data[-13:]
    raise RuntimeError("a tail has ended")


def _watch(url: str, token: str, tails: int, pipe: Any) -> None:
    """Follow so many tails; at each word through the pipe send the numbers of records that they have seen."""

    async def main() -> None:
        counts = [0] * tails
        ready = asyncio.Semaphore(0)
        reading = [asyncio.ensure_future(_read(url, token, counts, index, ready)) for index in range(tails)]
        for _ in reading:
            await ready.acquire()
        pipe.send("ready")
        while await asyncio.to_thread(pipe.recv) != "end":
            pipe.send([*counts])
        for one in reading:
            one.cancel()

    asyncio.run(main())


@contextlib.contextmanager
def watching(running: Running, tails: int) -> Iterator[Any]:
    """Give a function that returns how many records each tail has seen."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=_watch, args=(running.url, running.token(), tails, theirs))
    process.start()
    try:
        if not ours.poll(60) or ours.recv() != "ready":
            raise RuntimeError("the tails could not be opened")

        def counts() -> list[int]:
            ours.send("counts")
            found: list[int] = ours.recv()
            return found

        yield counts
        ours.send("end")
    finally:
        process.join(10)
        process.kill()


def _lines(count: int) -> list[bytes]:
    """Return lines of JSON as services send them: without the fields that the collector writes."""
    own = ("time", "peer", "received", "created")
    stored = map(json.loads, _fleet_lines.lines(0, count, time.time(), 0.001))
    return [json.dumps({key: value for key, value in one.items() if key not in own}).encode() + b"\n" for one in stored]


def _send(running: Running, lines: Sequence[bytes], rate: int, seconds: float) -> int:
    """Send records at a steady rate; return their number."""
    sent, began = 0, time.monotonic()
    with socket.create_connection(running.address) as sock:
        while (passed := time.monotonic() - began) < seconds:
            due = int(passed * rate)
            sock.sendall(b"".join(lines[number % len(lines)] for number in range(sent, due)))
            sent = max(sent, due)
            time.sleep(_PIECE_S)
    return sent


def run_tails(options: argparse.Namespace, tails: int, lines: Sequence[bytes]) -> dict[str, float]:
    """Return what one run has measured."""
    with (
        tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=options.scratch) as name,
        collecting(Path(name)) as running,
        watching(running, tails) if tails else contextlib.nullcontext(list) as counts,
    ):
        (page,) = (child["pid"] for child in running.status()["children"] if child["kind"] == "web")
        _send(running, lines, options.rate, _SETTLE_S)
        time.sleep(_SETTLE_S)
        before, seen, busy, all_busy = running.status()["records"], sum(counts()), cpu_s(page), cpu_s(running.root)
        began = time.monotonic()
        sent = _send(running, lines, options.rate, options.seconds)
        passed_s = time.monotonic() - began
        stored = running.status()["records"] - before
        page_cpu, all_cpu = cpu_s(page) - busy, cpu_s(running.root) - all_busy
        time.sleep(_SETTLE_S)
        found = {
            "sent_per_s": sent / passed_s,
            "kept": stored / sent,
            "page_cores": page_cpu / passed_s,
            "others_cores": (all_cpu - page_cpu) / passed_s,
            "page_mb": memory_bytes(page) / 1e6,
        }
        if tails:
            found["shown"] = (sum(counts()) - seen) / tails / sent
        return found


def measure_tails(options: argparse.Namespace, report: Report) -> None:
    """Measure runs with and without tails, interleaved."""
    lines = _lines(5_000)
    runs = 1 if options.short else 3
    found: dict[int, list[dict[str, float]]] = {0: [], options.tails: []}
    for _ in range(runs):
        for tails, results in found.items():
            results.append(run_tails(options, tails, lines))
    report.results["tails"] = {str(tails): results for tails, results in found.items()}

    def spread(tails: int, key: str) -> Spread:
        return Spread.of(one[key] for one in found[tails])

    rows = [
        (
            f"{tails} tails",
            spread(tails, "sent_per_s").text(),
            spread(tails, "kept").text(".3f"),
            spread(tails, "shown").text(".2f") if tails else "",
            spread(tails, "page_cores").text(".2f"),
            spread(tails, "page_mb").text(".0f"),
            spread(tails, "others_cores").text(".2f"),
        )
        for tails in found
    ]
    head = ("", "records/s", "came in", "shown to each", "page, cores", "page, MB", "others, cores")
    report.table(f"{options.tails} tails of everything", head, rows)
    kept, cores, memory = (spread(options.tails, key) for key in ("kept", "page_cores", "page_mb"))
    what = f"{options.tails} tails at {options.rate:,} records/s"
    report.targets += [
        Target(f"{what}: records that come in", f"{KEPT:g} or more", kept.text(".3f"), kept.least >= KEPT),
        Target(f"{what}: the page", f"below {CORES:g} cores", cores.text(".2f"), cores.median < CORES),
        Target(f"{what}: the page's memory", f"below {MEMORY_MB:g} MB", memory.text(".0f"), memory.most < MEMORY_MB),
    ]


def main(argv: Sequence[str] | None = None) -> Report:
    """Measure what the command line asks for."""
    options = parse(argv)
    report = Report("page", _report.settings(options))
    print(_report.headline(), flush=True)
    if options.only != "search":
        measure_tails(options, report)
    if options.only != "tails":
        measure_search(options, report)
    return report.finish(options.save, options.summary)


if __name__ == "__main__":
    main()

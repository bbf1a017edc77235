"""The servers that are compared: how each is configured, started and told apart.

Owns their commands and configuration files. Knows nothing of load and of clocks. A rival that is not installed is
missing from `available`, and `missing` says so aloud.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import _limit
from _processes import Running, cpu_s, started, wait_until
from _records import WARM_UP_NUMBER, Mix, Wire, frame, warm_up
from _verify import is_stored_record, marks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOST = "127.0.0.1"
_HERE = Path(__file__).resolve().parent
_MAX_CONNECTIONS = 10_000
_IDLE_S = 0.25
_IDLE_CPU_S = 0.015
"""A server that uses less than this in that time has started: one tick of the kernel's clock of CPU time."""
_STARTING_S = 5.0


@dataclass(frozen=True)
class Server:
    """One way to run one collector."""

    name: str
    what: str
    wire: Wire
    configure: Callable[[Path, int], list[str]]
    """Writes the configuration into a directory, for a port; returns the command."""
    output: str
    """The file of records, in that directory."""
    check_line: Callable[[bytes, int], bool] | None = None
    acknowledged: bool = False
    """Whether the records come as batches of sessions, which it acknowledges, and not as frames."""
    raw: bool = False
    """Whether the output is what was received, byte by byte; connections then meet inside records."""
    flushes_late: bool = False
    """Whether its last partial buffer stays in memory until it is stopped."""
    mix: Mix = "uniform"
    """Which records it is sent."""
    tls_bytes: int = 0
    """Bytes of a write by TLS; 0: the records are sent plain."""


@dataclass(frozen=True)
class Live:
    """A server that takes records."""

    server: Server
    running: Running
    address: tuple[str, int]
    output: Path
    warmed_up: int
    """Records in the output that are not counted."""
    warm_up_bytes: int = 0
    """Their size on the wire."""


def prefork_logd(
    workers: str = "auto",
    durability: str = "synced",
    *,
    text: bool = False,
    acknowledged: bool = False,
    native: bool = True,
    python: str = sys.executable,
    version: str = "",
    mix: Mix = "uniform",
    more: str = "",
    tls_bytes: int = 0,
) -> Server:
    """Return the collector under test, with one output; without `native`, its Python twin does the core's work.

    `more` is added to its configuration. With another `python` it is the collector that is installed there; `version`
    tells it apart in the table. With `tls_bytes` clients speak TLS, and write so many bytes at once; its certificate
    has a P-256 key.
    """

    def configure(directory: Path, port: int) -> list[str]:
        count = workers if workers.isdigit() else f'"{workers}"'
        output = '[[output]]\npath = "records.jsonl"\nformat = "text"\n' if text else ""
        config = directory / "prefork-logd.toml"
        # To files and nowhere else: a store has benchmarks of its own.
        bind = "bind = []\n" if tls_bytes else ""
        listener = _tls_listener(directory, port) if tls_bytes else ""
        config.write_text(
            f'store = []\n[server]\nworkers = {count}\ndurability = "{durability}"\n{bind}{output}{more}{listener}'
        )
        flags = ["--config", str(config), "--state-dir", str(directory)]
        flags += [] if tls_bytes else ["--bind", f"{HOST}:{port}"]
        forced = [] if native else ["env", "PREFORK_LOGD_NATIVE=0"]
        return [*forced, python, "-P", "-m", "prefork_logd", "run", *flags]

    label = (
        "prefork-logd"
        + (f" {version}" if version else "")
        + ("" if workers == "auto" else f" ({workers} workers)")
        + (" text" if text else "")
    )
    label += "" if native else " without the core"
    label += f" acknowledged, {durability}" if acknowledged else ""
    label += "" if mix == "uniform" else f", {mix} mix"
    label += f" TLS, writes of {tls_bytes:,} bytes" if tls_bytes else ""
    what = f"decoded and rendered, {'text' if text else 'JSON'}"
    check_line = None if text else functools.partial(is_stored_record, mix=mix)
    return Server(
        label, what, "stdlib", configure, "records.jsonl", check_line, acknowledged, mix=mix, tls_bytes=tls_bytes
    )


def _tls_listener(directory: Path, port: int) -> str:
    """Return a listener that takes TLS, and plain warm-up records, with a certificate made by openssl(1)."""
    certificate, key = directory / "tls.pem", directory / "tls.key"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    files = ("-out", str(certificate), "-keyout", str(key))
    subprocess.run(
        ("openssl", "req", "-x509", *curve, "-subj", "/CN=localhost", *files), check=True, capture_output=True
    )
    return f'[[listener]]\naddress = "{HOST}:{port}"\ntls = "accept"\ntls_cert = "{certificate}"\ntls_key = "{key}"\n'


def cookbook() -> Server:
    """Return the Logging Cookbook's server."""
    return Server(
        "cookbook",
        "unpickled and formatted, text",
        "stdlib",
        lambda directory, port: [
            sys.executable,
            str(_HERE / "_cookbook.py"),
            str(port),
            str(directory / "records.log"),
        ],
        "records.log",
    )


def limit() -> Server | None:
    """Return the receive-and-write program, if it can be compiled."""
    program = _limit.program()
    if program is None:
        return None
    return Server(
        "recv + write (C)",
        "not even framed: the limit",
        "stdlib",
        lambda directory, port: [str(program), str(port), str(directory / "records.raw")],
        "records.raw",
        raw=True,
    )


_RSYSLOG = """
global(workDirectory="{directory}" maxMessageSize="64k")
module(load="imptcp" threads="2")
{load}
template(name="line" type="list") {{ {line} constant(value="\\n") }}
ruleset(name="store" {queue}) {{
    {parse}
    action(type="omfile" file="{directory}/records.out" template="line" ioBufferSize="64k" {flush})
}}
input(type="imptcp" address="127.0.0.1" port="{port}" ruleset="store" socketBacklog="4096")
"""
_RSYSLOG_KINDS = {
    "copy": {
        "what": "lines copied, no queue",
        "load": "",
        "parse": "",
        "line": 'property(name="rawmsg")',
        "queue": 'queue.type="Direct"',
        "flush": 'flushOnTXEnd="off"',
    },
    "json": {
        "what": "JSON parsed and rendered, default queue",
        "load": 'module(load="mmjsonparse")',
        "parse": 'action(type="mmjsonparse" cookie="")',
        "line": 'property(name="$!all-json")',
        "queue": 'queue.type="LinkedList"',
        "flush": "",
    },
}


def rsyslog(kind: str) -> Server | None:
    """Return rsyslog, "copy"ing lines or parsing and rendering "json", if it is installed."""
    program = shutil.which("rsyslogd") or shutil.which("rsyslogd", path="/usr/sbin:/sbin")
    if program is None:
        return None
    options = _RSYSLOG_KINDS[kind]

    def configure(directory: Path, port: int) -> list[str]:
        config = directory / "rsyslog.conf"
        config.write_text(_RSYSLOG.format(directory=directory, port=port, **options))
        return [program, "-n", "-C", "-f", str(config), "-i", str(directory / "rsyslog.pid")]

    return Server(
        f"rsyslog {kind}", options["what"], "syslog", configure, "records.out", None, flushes_late=kind == "copy"
    )


_SYSLOG_NG = """@version: {version}
options {{ stats-freq(0); keep-hostname(yes); use-dns(no); chain-hostnames(no); threaded(yes); }};
source in {{
    network(ip("127.0.0.1") port({port}) transport("tcp") max-connections({connections})
            log-fetch-limit(1000) log-iw-size({window}) flags({flags}));
}};
{parser}
destination out {{
    file("{directory}/records.out" template("{line}") flush-lines(1000) log-fifo-size({fifo}));
}};
log {{ source(in); {parse} destination(out); flags(flow-control); }};
"""
_SYSLOG_NG_KINDS = {
    "copy": {
        "what": "lines copied, tuned",
        "flags": "no-parse",
        "parser": "",
        "parse": "",
        "line": r"$MESSAGE\n",
    },
    "json": {
        "what": "JSON parsed and rendered, tuned",
        "flags": "syslog-protocol",
        "parser": 'parser json { json-parser(prefix(".r.")); };',
        "parse": "parser(json);",
        "line": r"$(format-json --leave-initial-dot --key .r.* --shift-levels 2)\n",
    },
}


def syslog_ng(kind: str) -> Server | None:
    """Return syslog-ng, "copy"ing lines or parsing and rendering "json", if it is installed."""
    program = shutil.which("syslog-ng") or shutil.which("syslog-ng", path="/usr/sbin:/sbin")
    if program is None:
        return None
    options = _SYSLOG_NG_KINDS[kind]

    def configure(directory: Path, port: int) -> list[str]:
        config = directory / "syslog-ng.conf"
        window = _MAX_CONNECTIONS * 100
        values = {"connections": _MAX_CONNECTIONS, "window": window, "fifo": 2 * window, "version": _syslog_ng_config()}
        config.write_text(_SYSLOG_NG.format(directory=directory, port=port, **values, **options))
        places = {"-f": "syslog-ng.conf", "-p": "ng.pid", "-R": "ng.persist", "-c": "ng.ctl"}
        flags = [part for flag, name in places.items() for part in (flag, str(directory / name))]
        return [program, "--foreground", "--no-caps", *flags]

    return Server(f"syslog-ng {kind}", options["what"], "syslog", configure, "records.out")


@functools.cache
def _version_text(program: str, flag: str) -> str:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    return subprocess.run([path, flag], capture_output=True, text=True, check=False).stdout if path else ""


def _syslog_ng_config() -> str:
    found = re.search(r"Config version: (\S+)", _version_text("syslog-ng", "-V"))
    return found[1] if found else "3.35"


def versions() -> dict[str, str]:
    """Return the version of every server that is installed."""
    found = {"python": sys.version.split()[0]}
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        found["prefork-logd"] = importlib.metadata.version("prefork-logd")
    for program, flag in (("rsyslogd", "-v"), ("syslog-ng", "-V")):
        if match := re.search(r"\d+\.[\d.]+", _version_text(program, flag)):
            found[program] = match[0]
    return found


def rivals() -> list[Server]:
    """Return every rival that is here, and say aloud which are not."""
    candidates = {
        "cookbook": cookbook(),
        "rsyslog copy": rsyslog("copy"),
        "rsyslog json": rsyslog("json"),
        "syslog-ng copy": syslog_ng("copy"),
        "syslog-ng json": syslog_ng("json"),
        "recv + write (C)": limit(),
    }
    for name, server in candidates.items():
        if server is None:
            print(f"*** MISSING: {name} is not installed here and is left out of this comparison", file=sys.stderr)
    return [server for server in candidates.values() if server is not None]


def free_port() -> int:
    """Return a loopback port that nothing listens on just now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def environment() -> dict[str, str]:
    """Return the environment of a server: this checkout's package is the one that runs, installed or not."""
    path = os.pathsep.join(filter(None, (str(_HERE.parent), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


@contextlib.contextmanager
def serving(server: Server, scratch: Path | None = None, warm_up_records: int = 1024) -> Iterator[Live]:
    """Run a server in a directory of its own, warmed up with records that are not counted; remove all of it after.

    Raises RuntimeError with the server's own words when it does not come up.
    """
    with tempfile.TemporaryDirectory(prefix="prefork-logd-bench-", dir=scratch) as name:
        directory = Path(name)
        address = (HOST, free_port())
        numbers = range(WARM_UP_NUMBER, WARM_UP_NUMBER + warm_up_records)
        sent = sum(len(frame(number, server.wire)) for number in numbers)
        with started(server.configure(directory, address[1]), directory, environment()) as running:
            live = Live(server, running, address, directory / server.output, warm_up_records, sent)
            _await_listening(live)
            if warm_up_records:
                warm_up(address, server.wire, warm_up_records)
                wait_until(lambda: live.output.exists() and marks(live.output) >= warm_up_records, 1.0)
            _await_start(live)
            running.check()
            yield live


def _await_start(live: Live) -> None:
    """Wait until the server is idle: some processes of it still load their modules when the first records are stored.

    The benchmarks measure servers that have started. A server that is never idle gets a few seconds.
    """

    def idle() -> bool:
        before = cpu_s(live.running.pid)
        time.sleep(_IDLE_S)
        return cpu_s(live.running.pid) - before < _IDLE_CPU_S

    wait_until(idle, _STARTING_S)


def _await_listening(live: Live) -> None:
    def accepts() -> bool:
        live.running.check()
        try:
            socket.create_connection(live.address, timeout=5).close()
        except OSError:
            return False
        return True

    if not wait_until(accepts, 15):
        raise RuntimeError(f"{live.server.name} does not listen; it says: {live.running.log.read_text()[-2000:]}")

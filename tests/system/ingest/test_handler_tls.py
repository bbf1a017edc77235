"""The handler over TLS, under real interpreters: its promises hold as they do without."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from prefork_logd.handlers import ClientProtocol
from tests.support import interpreters
from tests.support.authority import LOCAL, Authority, Certificate
from tests.support.handler_service import Service, numbered, python_with, run_crippled
from tests.support.harness import Collector, messages, wait_for
from tests.support.tls_terminator import TlsTerminator
from tools import single_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSIONS = interpreters.WANTED
ENDS = ("2.7", "3.13")
PAGE = Path(__file__).parents[3] / "docs" / "tls.md"
LISTENER = '[[listener]]\naddress = "{0}"\ntls = "require"\ntls_cert = "{1.path}"\ntls_key = "{1.key}"\n'


class Site:
    """A collector with TLS listeners, and its authority. Each test has a service of its own."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory / "authority")
        self.certificate = self.authority.issue("collector", *LOCAL)
        # Each address is named once, also with a port that is picked.
        plain = '[server]\nbind = ["127.0.0.2:0"]\nworkers = 2\n'
        open_to_all, strict = (LISTENER.format(where, self.certificate) for where in ("127.0.0.1:0", "0.0.0.0:0"))
        toml = f'{plain}{open_to_all}{strict}tls_client_ca = "{self.authority.path}"\n'
        self.collector = Collector(directory / "state", toml)

    @property
    def address(self) -> tuple[str, int]:
        """Where TLS is spoken."""
        return "localhost", self.collector.address(1)[1]

    @property
    def strict_address(self) -> tuple[str, int]:
        """Where clients need a certificate."""
        return "localhost", self.collector.address(2)[1]

    def failures(self) -> dict[str, int]:
        """Return how many handshakes have failed, by reason."""
        found: dict[str, int] = self.collector.status()["tls_handshake_failures"]
        return dict(found)

    def stored(self, service: str, count: int) -> list[str]:
        """Return the messages of a service once there are so many."""

        def found() -> list[str]:
            return messages(record for record in self.collector.records() if record.get("service") == service)

        wait_for(lambda: len(found()) >= count, f"{count} records of {service}")
        return found()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("tls"))
    try:
        made.collector.start()
        yield made
    finally:
        made.collector.clean_up()


@pytest.fixture
def service(request: pytest.FixtureRequest) -> str:
    """Return a name by which the records of one test are found."""
    return re.sub(r"\W", "-", request.node.name)


@pytest.mark.parametrize("version", VERSIONS)
def test_records_arrive_once_and_in_order(version: str, site: Site, service: str) -> None:
    before = site.failures()
    arguments = {"count": 500, "tls_ca": site.authority.path, "service": service}
    found = Service(version, "some", site.address, **arguments).end()
    assert found["flushed"]
    assert (found["counters"]["acknowledged"], found["counters"]["connections"]) == (500, 1)
    assert site.stored(service, 500) == numbered(500)
    assert site.failures() == before


def test_a_session_opens_without_the_delays_of_tcp(site: Site) -> None:
    """Nagle's algorithm and delayed acknowledgements would take 40 ms each time; one of ten tries has to be quicker."""
    context = ssl.create_default_context(cafile=site.authority.path)
    took = []
    for _ in range(10):
        plain = socket.create_connection(site.address, timeout=20)
        with context.wrap_socket(plain, server_hostname="localhost") as sock:
            protocol = ClientProtocol(os.urandom(16))
            begin = time.monotonic()
            sock.sendall(protocol.hello(1))
            while protocol.state != "ready":
                data = sock.recv(1 << 16)
                assert data
                protocol.feed(data)
            took.append(time.monotonic() - begin)
    assert min(took) < 0.03


@pytest.mark.parametrize("version", ENDS)
def test_the_files_joined_into_one_and_a_given_name(
    version: str, site: Site, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copied.py").write_text(single_file.join_modules())
    monkeypatch.setenv("HANDLER_MODULE", str(tmp_path / "copied"))
    arguments = {"count": 50, "tls_ca": site.authority.path, "tls_server_name": "localhost", "service": service}
    found = Service(version, "some", ("127.0.0.1", site.address[1]), **arguments).end()
    assert found["own_modules"] == []
    assert site.stored(service, 50) == numbered(50)


@pytest.mark.parametrize("version", ENDS)
def test_configuration_by_dict_and_by_file_with_the_authorities_of_the_system(
    version: str, site: Site, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRATCH", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", site.authority.path)
    monkeypatch.setenv("OTEL_SERVICE_NAME", service)
    found = Service(version, "configured", (f"tls://localhost:{site.address[1]}", "")).end()
    assert found["flushed"]
    assert sorted(site.stored(service, 2)) == ["by dict", "by file"]


@pytest.mark.parametrize("version", ENDS)
def test_what_was_emitted_arrives_although_the_service_is_killed(version: str, site: Site, service: str) -> None:
    client = Service(version, "until_told", site.address, tls_ca=site.authority.path, service=service)
    with client.running():
        client.line()
        site.stored(service, 200)
        client.go_on()
        client.line()
    assert site.stored(service, 400) == numbered(400)


@pytest.mark.parametrize("version", ENDS)
def test_a_collector_that_is_killed_and_upgraded_gets_every_record_once(
    version: str, make_collector: Callable[..., Collector], site: Site
) -> None:
    def toml(address: str) -> str:
        return "[server]\nbind = []\nworkers = 2\n" + LISTENER.format(address, site.certificate)

    collector = make_collector(toml("127.0.0.1:0")).start()
    host, port = collector.address()
    client = Service(version, "stream", ("localhost", port), seconds=2.5, threads=2, tls_ca=site.authority.path)
    for is_killed in (True, False):
        before = len(collector.lines())
        wait_for(lambda before=before: len(collector.lines()) > before + 50, "more records")
        if is_killed:
            assert collector.process is not None
            os.killpg(collector.process.pid, signal.SIGKILL)
            collector.process.wait(20)
            collector.configure(toml(f"{host}:{port}"))
            collector.start()
        else:
            assert collector.cli("upgrade").returncode == 0
    found = client.end()
    expected = [f"thread {i} record {n}" for i, count in enumerate(found["counts"]) for n in range(count)]
    assert sorted(messages(collector.records())) == sorted(expected)
    assert found["counters"]["dropped"] == 0
    assert found["counters"]["connections"] >= 2
    assert collector.stop() == 0


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.13"])
def test_children_leave_the_connection_of_their_parent_alone(version: str, site: Site, service: str) -> None:
    """A byte more or a close_notify of a child would end it, and make the parent connect anew."""
    arguments = {"children": 6, "each": 5, "tls_ca": site.authority.path, "service": service}
    found = Service(version, "forks", site.address, **arguments).end()
    assert found["statuses"] == [0] * 6
    expected = [f"parent {i} record {n}" for i, count in enumerate(found["counts"]) for n in range(count)]
    expected += [f"child {child} record {n}" for child in range(6) for n in range(5)]
    assert sorted(site.stored(service, len(expected))) == sorted(expected)
    assert found["counters"]["connections"] == 1


@pytest.mark.parametrize("version", ENDS)
def test_a_fork_that_python_does_not_hear_of(version: str, site: Site, service: str) -> None:
    """Through a program that ends TLS in front of a plain listener, and sees what a child sends."""
    with TlsTerminator(site.collector.address(), site.certificate) as tls:
        where = ("localhost", tls.address[1])
        found = Service(version, "forks_in_c", where, tls_ca=site.authority.path, service=service).end()
        assert (found["status"], found["flushed"]) == (0, True)
        expected = [f"parent record {n}" for n in range(200)] + [f"child record {n}" for n in range(100, 200)]
        assert sorted(site.stored(service, 300)) == sorted(expected)
        assert (tls.handshakes, tls.damaged) == (["TLSv1.3"] * 2, 0)


@pytest.mark.parametrize("version", ENDS)
def test_a_collector_that_is_not_trusted_gets_nothing(version: str, site: Site, service: str, tmp_path: Path) -> None:
    """It is tried once in 5 s."""
    before = sum(site.failures().values())
    other = Authority(tmp_path / "other", "other")
    arguments = {"count": 5, "wait": 1.0, "close_timeout": 0.1, "tls_ca": other.path, "service": service}
    client = Service(version, "some", site.address, **arguments)
    found = client.end(stderr="records are kept (tls_ca names the certificates to trust", times=1)
    assert (found["counters"]["held"], found["counters"]["connections"]) == (5, 0)
    assert sum(site.failures().values()) == before + 1
    assert not [record for record in site.collector.records() if record.get("service") == service]


@pytest.mark.parametrize("fallback", [False, True])
@pytest.mark.parametrize("version", ENDS)
def test_a_service_without_tls_is_told_what_to_set(version: str, fallback: bool, site: Site, service: str) -> None:
    """It keeps its records, tries again in 5 s, and speaks no plain frames."""
    before = site.failures()["plain"]
    arguments = {"count": 5, "wait": 1.0, "close_timeout": 0.1, "service": service, "fallback": fallback}
    client = Service(version, "some", site.address, **arguments)
    said = "answers: only TLS is taken here; SocketHandler speaks it with tls=True (error 8); records are kept"
    found = client.end(stderr=said, times=1)
    assert (found["counters"]["held"], found["counters"]["connections"]) == (5, 1)
    assert site.failures()["plain"] == before + 1


@pytest.mark.parametrize("version", ENDS)
def test_a_collector_that_demands_a_certificate(version: str, site: Site, service: str, tmp_path: Path) -> None:
    """It gets the one that is in the files when the handler connects; without one the handler keeps its records."""
    cert, key = tmp_path / "client.pem", tmp_path / "client.key"
    for name in ("one", "two"):
        issued = site.authority.issue(name)
        shutil.copy(issued.path, tmp_path / f"{name}.pem")
        shutil.copy(issued.key, tmp_path / f"{name}.key")
    shutil.copy(tmp_path / "one.pem", cert)
    shutil.copy(tmp_path / "one.key", key)
    common = {"tls_ca": site.authority.path, "service": service}
    client = Service(version, "until_told", site.strict_address, tls_cert=str(cert), tls_key=str(key), **common)
    with client.running():
        client.line()
        site.stored(service, 200)
        (tmp_path / "two.pem").replace(cert)
        (tmp_path / "two.key").replace(key)
        for pid in site.collector.worker_pids().values():
            os.kill(pid, signal.SIGKILL)
        client.go_on()
        client.line()
        assert site.stored(service, 400) == numbered(400)
    records = [record for record in site.collector.records() if record.get("service") == service]
    assert [record["peer_name"] for record in records] == ["one"] * 200 + ["two"] * 200
    client = Service(version, "some", site.strict_address, count=5, wait=0.5, close_timeout=0.1, **common)
    client.end(stderr="refuses the TLS connection: tlsv13 alert certificate required", times=2)


@pytest.mark.parametrize("version", ENDS)
def test_a_spool_of_an_ended_process_is_sent(version: str, site: Site, service: str, tmp_path: Path) -> None:
    common = {"overflow": "spool", "spool_dir": str(tmp_path), "tls_ca": site.authority.path, "service": service}
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        port = refusing.getsockname()[1]
        Service(version, "ends", ("localhost", port), count=100, how="kill", **common).end(status=-signal.SIGKILL)
    assert list(tmp_path.glob("*.spool"))
    client = Service(version, "until_told", site.address, burst=0, **common)
    client.line()
    wait_for(lambda: not list(tmp_path.glob("*.spool")), "the spool is sent")
    client.end()
    assert site.stored(service, 100) == numbered(100)


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_records_arrive_where_parts_of_a_system_are_missing(system: str, site: Site, service: str) -> None:
    arguments = {"count": 100, "tls_ca": site.authority.path, "service": service}
    found, err, status = run_crippled(system, "some", site.address[1], **arguments)
    assert (found["flushed"], err, status) == (True, "", 0)
    assert site.stored(service, 100) == numbered(100)


@pytest.mark.parametrize("version", ENDS)
def test_a_handshake_without_an_answer_does_not_make_emit_slow(version: str, site: Site) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = ("127.0.0.1", listener.getsockname()[1])
        arguments = {"seconds": 1.0, "pause": 0.04, "close_timeout": 0.2, "connect_timeout": 0.5}
        # As without TLS: one of three runs has to hold, on a machine that is busy with something else.
        for _ in range(3):
            client = Service(version, "timed", where, tls_ca=site.authority.path, **arguments)
            found = client.end(stderr="did not acknowledge")
            if found["total"] / found["elapsed"] < 0.05 and found["longest"] < 0.06:
                break
        assert found["total"] / found["elapsed"] < 0.05
        assert found["longest"] < 0.06
        assert found["close"] < 1.0


def test_greenlets_of_a_patched_gevent(site: Site, service: str) -> None:
    version = python_with("gevent")
    arguments = {"tls_ca": site.authority.path, "service": service}
    found = Service(version, "greenlets", site.address, warnings="ignore", **arguments).end()
    assert found["flushed"]
    expected = [f"greenlet {i} record {n}" for i in range(20) for n in range(50)]
    assert sorted(site.stored(service, 1000)) == sorted(expected)


SERVICE = """
import logging, os, sys
from tls_socket_handler import TlsSocketHandler

log = logging.getLogger("shop." + sys.argv[3])
log.addHandler(TlsSocketHandler("localhost", int(sys.argv[1]), sys.argv[2], *sys.argv[4:]))
for number in range(20):
    log.warning("record %d", number)
child = os.fork()
for number in range(20, 40):
    log.warning("record %d" if child else "child %d", number)
if not child:
    logging.shutdown()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
log.warning("record 40")
"""


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.13"])
def test_the_subclass_of_the_standard_librarys_handler_on_the_page(
    version: str, site: Site, service: str, tmp_path: Path
) -> None:
    (code,) = re.findall(r"^```python\n(# tls_socket_handler\.py\n.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "tls_socket_handler.py").write_text(code)
    (tmp_path / "service.py").write_text(SERVICE)
    port, shown = str(site.strict_address[1]), site.authority.issue("shop")
    command = [interpreters.require(version), "-W", "error", str(tmp_path / "service.py"), port]
    done = subprocess.run(
        [*command, site.authority.path, service, *shown], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    expected = [*numbered(41), *(f"child {number}" for number in range(20, 40))]

    def found() -> list[tuple[str, str]]:
        records = [record for record in site.collector.records() if record["name"] == f"shop.{service}"]
        return sorted((record["peer_name"], record["message"]) for record in records)

    wait_for(lambda: len(found()) >= len(expected), "the records")
    assert found() == sorted(("shop", message) for message in expected)


@pytest.mark.parametrize("version", ENDS)
def test_the_authority_of_the_page(version: str, site: Site, service: str, tmp_path: Path) -> None:
    """Python 3.13 checks more than the others."""
    (commands,) = re.findall(r"^```sh\n(openssl.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    subprocess.run(["sh", "-e", "-c", commands], cwd=tmp_path, check=True, capture_output=True, timeout=30)
    shown = Certificate(str(tmp_path / "logs.example.com.pem"), str(tmp_path / "logs.example.com.key"))
    ca = str(tmp_path / "ca.pem")
    files = {"tls_ca": ca, "tls_cert": str(tmp_path / "shop.pem"), "tls_key": str(tmp_path / "shop.key")}
    with TlsTerminator(site.collector.address(), shown, ca) as tls:
        where = ("localhost", tls.address[1])
        arguments = {**files, "tls_server_name": "logs.example.com", "service": service}
        Service(version, "some", where, count=5, **arguments).end()
        assert (tls.handshakes, tls.names) == (["TLSv1.3"], ["shop"])
    assert site.stored(service, 5) == numbered(5)

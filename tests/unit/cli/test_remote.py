"""`query --server` and `tail --server` print the same, byte for byte, as beside the collector."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import quote

import click
import pytest
from click.testing import CliRunner

from prefork_logd.cli import remote
from prefork_logd.cli.main import cli
from prefork_logd.cli.remote import TOKEN_VARIABLE, connect, follow_remote
from prefork_logd.errors import ProcessError, StoreError
from prefork_logd.query.filters import Filters
from prefork_logd.query.search import RecordId
from prefork_logd.web.client.search import RemoteSearch
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.tokens import Tokens
from tests.support.page import make_settings, seed
from tests.support.page_server import Served, serving
from tests.support.stores import JOURNAL, NOW, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from click.testing import Result

LINES = [
    line(
        NOW + number,
        name="shop.cart" if number % 3 else "shop.orders",
        levelno=40 if number % 10 == 0 else 20,
        levelname="AUDIT" if number % 7 == 0 else "INFO",
        msg=f'record {number} took "{number}" ms \\ \u202e<b>',
        process=7 + number % 2,
        service="shop",
        status=500 if number % 10 == 0 else 200,
        note="\u20ac\ud800" if number == 3 else 'a "quoted" note',
    )
    for number in range(300)
]


class Both:
    """A collector's store, asked beside it and from afar."""

    def __init__(self, state_dir: Path, served: Served, token: str) -> None:
        self.served = served
        self.token = token
        self._state_dir = state_dir

    def near(self, *words: str) -> Result:
        return CliRunner().invoke(cli, ["--config", "/dev/null", "--state-dir", str(self._state_dir), *words])

    def invoke(self, *words: str, token: str | None = None) -> Result:
        environment = {TOKEN_VARIABLE: self.token if token is None else token}
        flags = ["--config", "/dev/null", "--state-dir", "/nonexistent"]
        return CliRunner().invoke(cli, [*flags, words[0], "--server", self.served.url, *words[1:]], env=environment)

    def far(self, *words: str, token: str | None = None) -> Result:
        result = self.invoke(*words, token=token)
        if isinstance(result.exception, (ProcessError, StoreError)):
            raise result.exception
        return result

    def search(self) -> RemoteSearch:
        return RemoteSearch(connect(self.served.url, None), "")


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Both]:
    """Return a store of LINES, and a page that serves it."""
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    seed(make_settings(state_dir), LINES)
    token = Tokens(PageFiles(state_dir)).add("test", "viewer", None)
    monkeypatch.setenv(TOKEN_VARIABLE, token)
    with serving(state_dir) as served:
        yield Both(state_dir, served, token)


def test_answers_are_the_same(both: Both) -> None:
    """Records in every format, and every kind of answer, for every flag."""
    since = f"@{NOW + 50}"
    record = f"{JOURNAL}-150"
    for words in (
        [],
        ["--format", "json"],
        ["--format", "json", "--order", "newest", "--limit", "7"],
        ["--format", "csv", "level>=ERROR status:500"],
        ["--format", "table", "--limit", "3"],
        ["--format", "json", "--limit", "0"],
        ["--format", "json", "--since", since, "--until", f"@{NOW + 60.5}"],
        ["--format", "json", "--level", "AUDIT"],
        ["--format", "json", "--logger", "shop.orders", "--logger", "other"],
        ["--format", "json", "--grep", 'took "7 ms"'],
        ["--count", "--service", "shop", "--environment", "e", "--host", "h"],
        [
            "--format",
            "json",
            "--where",
            "extra.status=500",
            "--where",
            "levelno>=40",
            "--where",
            'extra."note"~"quoted',
        ],
        ["--format", "json", "--where", "extra.note!=x", "--where", "name=shop.cart"],
        ["--format", "json", "--grep", "took", "or OR level:AUDIT OR shop.orders"],
        ["--format", "json", 'message~"\\\\" -name=shop.cart'],
        ["--count"],
        ["--count", "--level", "ERROR"],
        ["--histogram"],
        ["--histogram", "--since", since, "level>=ERROR OR status:200"],
        ["--facet", "status", "--facet", "name", "--top", "2"],
        ["--stats", "count, max(process), p95(extra.status) by name, status", "--format", "json"],
        ["--stats", "count"],
        ["--fields", "--format", "csv"],
        ["--patterns", "--top", "3"],
        ["--ids", "--format", "json", "--limit", "120"],
        ["--ids", "level>=ERROR"],
        ["--around", record, "--same", "process", "--before", "3", "--after", "2", "--format", "json"],
    ):
        near, far = both.near("query", *words), both.far("query", *words)
        assert near.exit_code == 0, near.output
        assert (far.stdout_bytes, far.exit_code) == (near.stdout_bytes, 0), (words, far.output[-300:])
        assert near.stdout_bytes or "0" in words


def test_the_latest_records_are_the_same(both: Both) -> None:
    """Those of `tail`, from the store."""
    far = both.far("tail", "-n", "5", "--format", "json", "level>=ERROR")
    assert far.stdout_bytes == b"".join([one for one in LINES if b'"levelno":40' in one][-5:])
    assert both.far("tail", "-n", "0").stdout_bytes == b""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["query", "a:"], "column 1"),
        (["query", "--level", "LOUD"], "is not a level"),
        (["query", "--around", f"{JOURNAL}-1", "--before", "501"], "before"),
        (["query", "--around", "x"], "is not the id of a record"),
        (["tail", "a:"], "column 1"),
        (["query", "--store", "none"], "none"),
    ],
)
def test_a_mistake_is_explained(both: Both, words: list[str], said: str) -> None:
    """By this command, or by the page."""
    result = both.invoke(*words)
    assert result.exit_code == (1 if isinstance(result.exception, StoreError) else 2)
    assert said in result.output + str(result.exception)


def test_a_token_is_needed(both: Both, tmp_path: Path) -> None:
    """From the environment or a file; the error names both."""
    for token in ("", "plt_wrong"):
        with pytest.raises(ProcessError, match=f"--token-file or {TOKEN_VARIABLE}"):
            both.far("query", "--count", token=token)
    path = tmp_path / "token"
    path.write_text(f"{both.token}\n")
    assert both.far("query", "--count", "--token-file", str(path), token="").stdout == "300\n"
    with pytest.raises(ProcessError, match="cannot read the token"):
        both.far("query", "--count", "--token-file", str(tmp_path / "missing"))


@pytest.mark.parametrize(
    "server",
    ["", "localhost:9021", "ftp://x", "http://", "http://a:b@x", "http://x?q=1", "http://x:port", "http://[x"],
)
def test_an_address_that_is_none(server: str) -> None:
    """Before anything is sent."""
    with pytest.raises(click.UsageError):
        connect(server, None)


def test_a_token_without_a_server_is_a_mistake() -> None:
    for verb in ("query", "tail"):
        result = CliRunner().invoke(cli, [verb, "--token-file", "x"])
        assert result.exit_code == 2
        assert "belongs to --server" in result.output


def test_an_unencrypted_token_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not on this host, and not without a token."""
    monkeypatch.setenv(TOKEN_VARIABLE, "plt_x")
    for server, is_warned in (("http://192.0.2.1", True), ("http://localhost:1", False), ("https://192.0.2.1", False)):
        connect(server, None)
        assert ("unencrypted" in capsys.readouterr().err) is is_warned


@contextlib.contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """Give the URL of a server that sends these bytes to one connection after the other, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for answer in answers:
                sock, _ = server.accept()
                with sock:
                    asked.append(sock.recv(65_536))
                    sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join(10)


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_an_answer_that_ends_early_is_an_error() -> None:
    """Half of the records must not look like all of them."""
    for rest in (b"3\r\n{}\n\r\n", b"3\r\n{}\n\r\n5\r\n{}", b""):
        with answering(CHUNKED + rest) as (url, _):
            lines = RemoteSearch(connect(url, None), "").lines(Filters())
            with pytest.raises(StoreError, match="the answer ended early"):
                list(lines)
    with answering(CHUNKED + b"3\r\n{}\n\r\n0\r\n\r\n") as (url, _):
        assert list(RemoteSearch(connect(url, None), "").lines(Filters())) == [b"{}\n"]


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 404 No\r\n\r\n<html>"]
)
def test_another_server_is_not_taken_for_a_page(answer: bytes) -> None:
    """No redirect is followed with the token."""
    with answering(answer) as (url, _), pytest.raises(ProcessError, match="is it the address of a page"):
        RemoteSearch(connect(url, None), "").count(Filters())


@pytest.mark.parametrize("form", ["unix:{}", "http+unix://{}"])
def test_a_page_on_a_unix_socket_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """By the path of its socket; the token is sent to nobody else, so there is no warning."""
    state_dir, path = tmp_path / "state", tmp_path / "the page.sock"
    state_dir.mkdir()
    seed(make_settings(state_dir), LINES)
    monkeypatch.setenv(TOKEN_VARIABLE, Tokens(PageFiles(state_dir)).add("test", "viewer", None))
    address = form.format(path if form.startswith("unix") else quote(str(path), safe=""))
    flags = ["--config", "/dev/null", "--state-dir", "/nonexistent"]
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        with serving(state_dir, listening=listening):
            result = CliRunner().invoke(cli, [*flags, "query", "--server", address, "--count"])
            latest = CliRunner().invoke(cli, [*flags, "tail", "--server", address, "-n", "2", "--format", "json"])
    assert (result.output, result.exit_code) == ("300\n", 0)
    assert latest.stdout_bytes == b"".join(LINES[-2:])
    with pytest.raises(StoreError, match=rf"^unix:{path}: no answer: Connection refused"):
        RemoteSearch(connect(address, None), "").count(Filters())


@pytest.mark.parametrize("address", ["unix:", "unix:page.sock", "http+unix://", "unix:/a\0b"])
def test_an_address_without_a_path_is_refused(address: str) -> None:
    with pytest.raises(click.UsageError, match="no absolute path of a socket"):
        connect(address, None)


def test_a_server_that_is_away_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(StoreError, match="no answer: Connection refused"):
        RemoteSearch(connect(url, None), "").count(Filters())


def _event(number: int) -> bytes:
    data = b'{"id":"%b-%d","record":{"message":"%d"}}' % (JOURNAL.encode(), number, number)
    return b"event: record\ndata: %b\n\n" % data


def _stream(*events: bytes) -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in events)


def test_a_tail_that_has_no_record_yet_goes_on_where_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the id of the first event, then by that of the last rate."""
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    start = b"event: start\nid: %b-5@77\ndata: {}\n\n" % JOURNAL.encode()
    rate = b'event: rate\nid: %b-9@78\ndata: {"sampled":false}\n\n' % JOURNAL.encode()
    with answering(_stream(start), _stream(start[:14] + b"data: {}\n\n", rate), _stream(_event(9))) as (url, asked):
        lines = follow_remote(RemoteSearch(connect(url, None), ""), Filters(), None)
        assert json.loads(next(lines))["message"] == "9"
        lines.close()
    assert [one.partition(b"after=")[2].split()[:1] for one in asked] == [
        [],
        [f"{JOURNAL}-5%4077".encode()],
        [f"{JOURNAL}-9%4078".encode()],
    ]


def test_a_tail_goes_on_behind_the_last_record(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After a connection that broke, and after one that was torn in the middle of a record."""
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    gap = b'event: gap\ndata: {"message":"some were removed"}\n\n'
    unknown = b"event: news\ndata: {}\n\n"
    sampled = b'event: rate\ndata: {"per_s":9.0,"shown_per_s":1.0,"sampled":true}\n\n'
    first = _stream(b": \n\n", _event(1), _event(2), _event(3)[:20])
    second = _stream(gap, unknown, sampled, sampled, _event(3))
    with answering(first, second, _stream(_event(4))) as (url, asked):
        lines = follow_remote(RemoteSearch(connect(url, None), ""), Filters(), RecordId(JOURNAL, 0))
        assert [json.loads(next(lines))["message"] for _ in range(4)] == ["1", "2", "3", "4"]
        lines.close()
    assert [one.partition(b"after=")[2].split()[0] for one in asked] == [
        f"{JOURNAL}-{number}".encode() for number in (0, 2, 3)
    ]
    said = capsys.readouterr().err
    assert "some were removed" in said
    assert said.count("more records come") == 1
    assert "connecting again in" in said

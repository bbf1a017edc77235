"""The arguments of a handler: checked once, shared by its parts, changed by its attributes."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from prefork_logd.handlers import SocketHandler, _options
from prefork_logd.handlers._options import Options


@pytest.mark.parametrize(
    ("host", "port", "expected"),
    [
        ("unix:/run/s", 5, ("/run/s", None)),
        ("/run/s", None, ("/run/s", None)),
        ("logs.example.com", "9020", ("logs.example.com", 9020)),
    ],
)
def test_addresses(host: str, port: Any, expected: tuple[str, int | None]) -> None:
    options = Options(host, port)
    assert (options.host, options.port) == expected
    assert options.literal is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:9020", ("127.0.0.1", 9020)),
        ("[::1]:9020", ("::1", 9020)),
        ("logs.example.com:1", ("logs.example.com", 1)),
    ],
)
def test_an_address_as_one_text_is_host_and_port(text: str, expected: tuple[str, int]) -> None:
    """And what a name of a file is, stays one."""
    options = Options(text, None)
    assert (options.host, options.port) == expected
    assert Options("./" + text, None).port is None


def test_impossible_ports_and_sockets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="port 99999 is not between 0 and 65535"):
        Options("127.0.0.1:99999", None)
    monkeypatch.setattr(_options, "UNIX", None)
    with pytest.raises(ValueError, match="is a Unix socket, which this system does not have"):
        Options("unix:/run/s", None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"host": None}, "host is None; it must be a text"),
        ({"host": "http://h:9020", "port": None}, "write tls://HOST:PORT, unix:/PATH, or HOST:PORT"),
        ({"host": "h:9020"}, "host is 'h:9020' and port 9020; give the port once"),
        ({"host": "tls://h:9020"}, "host is 'h:9020' and port 9020; give the port once"),
        ({"port": "abc"}, "port is 'abc'; it must be a number between 0 and 65535"),
        ({"limit_bytes": "64 MiB"}, "limit_bytes is '64 MiB'; it must be a number of 0 or more"),
        ({"close_timeout": None}, "close_timeout is None; it must be"),
        ({"retry_pause": -1}, "retry_pause is -1; it must be"),
        ({"hello_timeout": float("nan")}, "hello_timeout is nan; it must be"),
        ({"max_record_bytes": True}, "max_record_bytes is True; it must be a number of 1 or more"),
        ({"overflow": "spol"}, "overflow is 'spol'; choose one of"),
        ({"fallback": "false"}, "fallback is 'false'; choose True or False"),
        ({"default": 5}, "default is 5; it must be a function"),
    ],
)
def test_an_argument_without_a_meaning_is_refused_by_its_name(arguments: dict[str, Any], said: str) -> None:
    """The same when an attribute of the handler is set, which then stays as it was."""
    with pytest.raises(ValueError, match=re.escape(said)):
        SocketHandler(**{"host": "127.0.0.1", "port": 9020, **arguments})
    if not arguments.keys() & {"host", "port"}:
        handler = SocketHandler("127.0.0.1", 9020)
        ((name, value),) = arguments.items()
        before = getattr(handler, name)
        with pytest.raises(ValueError, match=re.escape(said)):
            setattr(handler, name, value)
        assert getattr(handler, name) == before


def test_paths_may_be_objects(tmp_path: Path) -> None:
    options = Options(tmp_path / "socket", None, overflow="spool", spool_dir=tmp_path)  # type: ignore[arg-type]
    assert (options.host, options.port, options.spool_dir) == (str(tmp_path / "socket"), None, str(tmp_path))


def test_an_impossible_spool_directory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the first record, and without making anything."""
    (tmp_path / "file").touch()
    for path in ("file", "file/spool"):
        with pytest.raises(ValueError, match=r"impossible: .*/file is not a directory"):
            Options("h", 1, overflow="spool", spool_dir=str(tmp_path / path))
    Options("h", 1, overflow="spool", spool_dir=str(tmp_path / "new" / "spool"))
    with pytest.raises(ValueError, match="needs spool_dir"):
        Options("h", 1, overflow="spool", spool_dir="")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="this process cannot write in"):
        Options("h", 1, overflow="spool", spool_dir=str(tmp_path))


def test_literal_addresses_need_no_name_service() -> None:
    assert Options("::1", 1).literal == [(socket.AF_INET6, ("::1", 1))]
    assert [family for family, _ in Options("localhost", 1).literal] == [socket.AF_INET, socket.AF_INET6]


def test_keys_are_bytes_and_forbid_the_fallback() -> None:
    options = Options("h", 1, key_id="web", key="sixteen bytes or more", fallback=True)
    assert (options.key_id, options.key, options.fallback) == (b"web", b"sixteen bytes or more", False)
    assert Options("h", 1, fallback=True).fallback


def test_a_spool_is_named_by_an_absolute_path() -> None:
    assert Options("h", 1, overflow="spool", spool_dir="here").spool_dir == str(Path.cwd() / "here")


def test_attributes_of_a_handler_change_what_its_parts_go_by() -> None:
    handler = SocketHandler("127.0.0.1", 1)
    try:
        assert (handler.limit_bytes, handler.overflow, handler.hello_timeout) == (64 << 20, "block", 2.0)
        handler.limit_bytes = 5
        handler.close_timeout = 0.0
        assert handler._client.queue.options.limit_bytes == 5
        assert handler._client.options.close_timeout == 0.0
    finally:
        handler.close()

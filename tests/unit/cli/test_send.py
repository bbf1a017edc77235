"""Records sent by hand: their frames, and the errors of a receiver that is not there."""

from __future__ import annotations

import itertools
import logging
import pickle
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from prefork_logd.cli.app import Flags
from prefork_logd.cli.collector import find_address
from prefork_logd.cli.main import cli
from prefork_logd.cli.send import make_frames, send_frames
from prefork_logd.errors import ProcessError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def records_of(octets: bytes) -> Iterator[logging.LogRecord]:
    """Yield the records of plain frames (logging.handlers.SocketHandler)."""
    while octets:
        size = int.from_bytes(octets[:4], "big")
        yield logging.makeLogRecord(pickle.loads(octets[4 : 4 + size]))
        octets = octets[4 + size :]


def test_frames_hold_message_logger_level_and_extra() -> None:
    """A message is text, not a format."""
    octets = b"".join(make_frames(["100 %s", "two"], "shop.cart", 25, {"order": "7"}))
    first, second = records_of(octets)
    assert (first.getMessage(), first.name, first.levelno) == ("100 %s", "shop.cart", 25)
    assert first.__dict__["order"] == "7"
    assert second.getMessage() == "two"


def test_an_attribute_of_every_record_is_refused() -> None:
    """`extra` must not overwrite it."""
    with pytest.raises(ProcessError, match=r"--extra: .*message.*; choose another key"):
        list(make_frames(["x"], "a", 20, {"message": "y"}))


def test_frames_arrive_and_the_end_is_awaited(tmp_path: Path) -> None:
    """Over a Unix socket: the sender returns after the receiver has closed."""
    path = tmp_path / "s"
    received = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def receive() -> None:
            with listener.accept()[0] as sock:
                while data := sock.recv(65_536):
                    received.append(data)

        thread = threading.Thread(target=receive)
        thread.start()
        send_frames(f"unix:{path}", [b"one", b"two"])
        thread.join()
    assert b"".join(received) == b"onetwo"


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nowhere", "write"),
        ("unix:/nowhere/at/all", "cannot send: No such file or directory; is the collector running"),
        ("a" * 70 + ".b:1", "not a host name"),
        ("no.such.host.invalid:1", "cannot send: .*; write another host"),
    ],
)
def test_a_receiver_that_is_not_there(address: str, sentence: str) -> None:
    """The address, the reason and the remedy in one sentence."""
    with pytest.raises(ProcessError, match=sentence):
        send_frames(address, [])


def test_a_listener_that_closes_at_once(tmp_path: Path) -> None:
    """As one for TLS does: the collector runs, so nobody has to look for it."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def refuse() -> None:
            with listener.accept()[0] as sock:
                sock.recv(1)

        thread = threading.Thread(target=refuse)
        thread.start()
        with pytest.raises(ProcessError, match="does this listener take plain records"):
            send_frames(f"unix:{path}", itertools.repeat(b"frame" * 10_000))
        thread.join()


def test_a_listener_for_tls_alone_is_not_chosen(tmp_path: Path) -> None:
    """Neither one that needs a key; the next one of the file is."""
    config = tmp_path / "c.toml"
    tls = '[server]\nbind = []\n[[listener]]\naddress = "127.0.0.1:1"\ntls = "require"\ntls_cert = "c"\ntls_key = "k"\n'
    config.write_text(f'{tls}[[listener]]\naddress = "127.0.0.1:2"\n')
    flags = Flags()
    flags.update(str(config), str(tmp_path), (), None)
    assert find_address(flags) == "127.0.0.1:2"


@pytest.mark.parametrize("flags", [["--extra", "novalue"], ["--extra", "=v"], ["--level", "loud"]])
def test_flags_that_cannot_be_read_are_usage_errors(flags: list[str]) -> None:
    """Before anything is sent."""
    done = CliRunner().invoke(cli, ["send", "x", "--to", "unix:/nowhere", *flags])
    assert done.exit_code == 2
    assert flags[1] in done.output


def test_without_a_collector_there_is_no_address(tmp_path: Path) -> None:
    """Another program may listen on the default one."""
    done = CliRunner().invoke(cli, ["--state-dir", str(tmp_path), "send", "x"])
    assert isinstance(done.exception, ProcessError)
    assert done.exception.exit_status == 3
    assert "--to" in str(done.exception)

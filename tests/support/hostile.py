"""Attacks a collector as hostile clients do: each kind by its name, and a process that mounts some of them.

    python -m tests.support.hostile HOST:PORT STATE_DIR SEED KIND...

It attacks until its standard input ends, then prints how many bytes and connections that took, as JSON. Each kind sends
at most BYTES_PER_S. Its valid records have level DEBUG, so that an output of level INFO has none of them.

Owns the attacks. Does not know honest clients, or the checks.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import struct
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.support import wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BYTES_PER_S = 1_000_000
PATIENCE_S = 2.0
LIMITS = (0, 1, 2, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1)
"""Numbers at the ends of their types."""
IDLE_CONNECTIONS = 80
_RESET = struct.pack("ii", 1, 0)


class Target(NamedTuple):
    """The collector that is attacked."""

    host: str
    port: int
    state_dir: Path


# Records that cost more than they seem to


def text(value: str | bytes) -> bytes:
    """Return a string as pickle protocol 2 writes it."""
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return b"X" + struct.pack("<I", len(data)) + data


def pickled(extra: bytes = b"N") -> bytes:
    """Return a record of level DEBUG with one attribute that is not LogRecord's."""
    head = b"\x80\x02}(" + text("name") + text("evil") + text("levelno") + b"K\x0a" + text("msg") + text("x")
    return head + text("x") + extra + b"u."


def repeated(item: bytes, count: int) -> bytes:
    """Return a list that has one item many times, by reference."""
    return b"](" + item + b"q\x01" + b"h\x01" * (count - 1) + b"e"


DEAR = {
    "control characters": pickled(repeated(text("\x01" * 1000), 2000)),
    "lone surrogates": pickled(repeated(text("\udcff" * 500), 4150)),
    "line separators": pickled(repeated(text("\u2028" * 1000), 1000)),
    "long integers": pickled(repeated(b"\x8b" + struct.pack("<i", 1700) + b"\x7f" * 1700, 500)),
    "depth": pickled(b"](" * 190 + b"K\x01" + b"e" * 190),
    "keys": pickled(b"}(" + b"".join(b"M" + struct.pack("<H", number) + b"N" for number in range(16_000)) + b"u"),
    "lists": pickled(b"](" + b"]" * 19_990 + b"e"),
    "megabytes": pickled(text("x" * 900_000)),
    "not a pickle": b"\x80\x02" + bytes(1000),
    "nothing": b"",
}


def frame(body: bytes) -> bytes:
    """Return a plain frame."""
    return struct.pack(">I", len(body)) + body


# Attacks: each is one short conversation, and returns how many bytes it sent


@contextlib.contextmanager
def connected(target: Target) -> Iterator[socket.socket]:
    """Connect; close with a reset, so that no port is used up."""
    with socket.create_connection((target.host, target.port), PATIENCE_S) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        yield sock


def hello(session: bytes, first: int = 1, capabilities: int = 1) -> bytes:
    """Return the HELLO of a session."""
    return wire.hello(first, capabilities=capabilities).replace(wire.SESSION, session)


def converse(target: Target, *pieces: bytes) -> int:
    """Send pieces, of which the first gets an answer, and wait a little for the last answer."""
    sent = 0
    with connected(target) as sock:
        for piece in pieces:
            sock.sendall(piece)
            sent += len(piece)
            sock.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                if not sock.recv(4096):
                    break
    return sent


def limit_numbers(target: Target, chance: random.Random) -> int:
    """Send numbers at their limits in every field of every message."""
    one, two = chance.choice(LIMITS), chance.choice(LIMITS)
    session = chance.randbytes(16)
    count = min(two, 2**32 - 1)
    odd = [
        wire.gap(one, two),
        wire.gap(one, two, float("nan"), float("inf")),
        wire.batch(one, pickled(), pickled(), count=count),
        wire.message(chance.choice((1, 2, 3, 4, 5, 0x85, 255)), chance.randbytes(chance.choice((0, 1, 20, 1024)))),
        struct.pack(">HBBI", 0xF750, 3, 0, min(one, 2**32 - 1)),
        wire.bye(),
    ]
    said = [wire.gap(1, 2**64 - 1)] if chance.random() < 0.3 else []
    said += chance.sample(odd, 3)
    return converse(target, hello(session, chance.choice((1, one))), b"".join(said))


def dear_frames(target: Target, chance: random.Random) -> int:
    """Send the most expensive frames, on a plain connection or in a session."""
    body = DEAR[chance.choice(sorted(DEAR))]
    count = max(1, min(25, 100_000 // (len(body) + 1)))
    if chance.random() < 0.5:
        return converse(target, frame(body) * count)
    return converse(target, hello(chance.randbytes(16)), wire.batch(1, *[body] * count))


def session_flood(target: Target, chance: random.Random) -> int:
    """Open sessions with new ids again and again, with and without a record."""
    sent = 0
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            sock = stack.enter_context(connected(target))
            said = hello(chance.randbytes(16), chance.choice((1, 1000)), chance.choice((0, 1)))
            sock.sendall(said)
            sent += len(said)
        if chance.random() < 0.3:
            sock.recv(4096)
            sock.sendall(wire.batch(1, pickled()))
    return sent


def hello_flood(target: Target, chance: random.Random) -> int:
    """Open one session on new connections again and again, which fence one another; send HELLO twice on one."""
    session = b"one and the same"
    sent = 0
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(connected(target))
            said = hello(session) * chance.choice((1, 1, 2))
            sock.sendall(said)
            sent += len(said)
    return sent


def rejected_flood(target: Target, chance: random.Random) -> int:
    """Send invalid records, as many as a session or a connection accepts."""
    if chance.random() < 0.3:
        return converse(target, frame(b"") * 900)
    return converse(target, hello(chance.randbytes(16)), wire.batch(1, *[b""] * 10_000))


def half_records(target: Target, chance: random.Random) -> int:
    """Begin records and never end them, on many connections."""
    body = DEAR["megabytes"]
    part = body[: chance.choice((1, 1000, 50_000))]
    sent = 0
    with contextlib.ExitStack() as stack:
        for _ in range(10):
            sock = stack.enter_context(connected(target))
            if chance.random() < 0.5:
                said = struct.pack(">I", len(body)) + part
            else:
                said = hello(chance.randbytes(16))
                sock.sendall(said)
                sock.recv(4096)
                said = wire.batch(1, body)[: len(part) + 24]
            sock.sendall(said)
            sent += len(said)
        time.sleep(0.2)
    return sent


def idle_connections(target: Target, chance: random.Random) -> int:
    """Open more connections than the limit, and send nothing."""
    with contextlib.ExitStack() as stack:
        for _ in range(IDLE_CONNECTIONS):
            try:
                stack.enter_context(connected(target))
            except OSError:
                break
        time.sleep(chance.uniform(0.1, 0.4))
    return 0


def slow_reader(target: Target, chance: random.Random) -> int:
    """Open a session, and never read its acknowledgements."""
    with connected(target) as sock:
        sock.sendall(hello(chance.randbytes(16)))
        time.sleep(0.05)
        said = b"".join(wire.batch(number, pickled()) for number in range(1, 500))
        sock.sendall(said)
        time.sleep(0.1)
        return len(said)


def garbage(target: Target, chance: random.Random) -> int:
    """Send other protocols, and bytes of no protocol."""
    said = (
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00" + chance.randbytes(200),
        chance.randbytes(chance.choice((1, 4, 100, 5000))),
        b"\x00" * 100,
        b"\xf7" + chance.randbytes(50),
        hello(chance.randbytes(16))[: chance.randrange(40)],
    )
    return converse(target, chance.choice(said))


def control_socket(target: Target, chance: random.Random) -> int:
    """Send malformed requests to the control socket, from many clients at once."""
    said = (
        b"{",
        b"\n" * 100,
        b"[" * 4000 + b"\n",
        b'{"verb": "status"}',
        b'{"verb": "status"}\n' * 50,
        b'{"verb": 5}\n',
        b"null\n",
        b"\xff" * 5000,
        b'{"verb": "\\ud800"}\n',
        b'{"verb": ' + b"9" * 4000 + b"}\n",
    )
    directory = os.open(target.state_dir, os.O_DIRECTORY)
    sent = 0
    try:
        with contextlib.ExitStack() as stack:
            for _ in range(chance.choice((1, 5, 20))):
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.settimeout(0.2)
                sock.connect(f"/proc/self/fd/{directory}/control.sock")
                data = chance.choice(said)
                sock.sendall(data)
                sent += len(data)
            with contextlib.suppress(TimeoutError):
                sock.recv(100)
    finally:
        os.close(directory)
    return sent


KINDS: dict[str, Callable[[Target, random.Random], int]] = {
    attack.__name__: attack
    for attack in (
        limit_numbers,
        dear_frames,
        session_flood,
        hello_flood,
        rejected_flood,
        half_records,
        idle_connections,
        slow_reader,
        garbage,
        control_socket,
    )
}


def mount(kind: str, target: Target, chance: random.Random, is_over: threading.Event, done: Counter[str]) -> None:
    """Attack again and again, at most BYTES_PER_S."""
    pause_s = 0.01
    while not is_over.wait(pause_s):
        try:
            sent = KINDS[kind](target, chance)
            done[kind] += 1
            done["bytes"] += sent
            pause_s = max(0.005, sent / BYTES_PER_S)
        except OSError:  # Refused, reset or closed, as expected.
            done["cut"] += 1
            pause_s = 0.02


def main() -> int:
    """Attack until standard input ends."""
    address, directory, seed, *kinds = sys.argv[1:]
    host, _, port = address.rpartition(":")
    target = Target(host, int(port), Path(directory))
    is_over = threading.Event()
    done: Counter[str] = Counter()
    threads = [
        threading.Thread(target=mount, args=(kind, target, random.Random(f"{seed} {kind}"), is_over, done))
        for kind in kinds
    ]
    for thread in threads:
        thread.start()
    sys.stdin.read()
    is_over.set()
    for thread in threads:
        thread.join()
    print(json.dumps(done))
    return 0


if __name__ == "__main__":
    sys.exit(main())

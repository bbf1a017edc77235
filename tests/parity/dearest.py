"""`python -m tests.parity.dearest --seconds 60`: which frame costs most, in time and in output, for each of its bytes.

Owns families of frames that cost much, each of any size, and what one of them makes a worker's Dispatcher do. The seed
is printed; with it a run can be repeated.
"""

from __future__ import annotations

import argparse
import gc
import random
import struct
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from prefork_logd.config.load import loads
from prefork_logd.ingest.dispatcher import Dispatcher
from prefork_logd.ipc.configuration import Configuration
from tests.support.assemble import CREATED, call, named, text

if TYPE_CHECKING:
    from collections.abc import Callable

LINES = {"json": 1, "text": 1, "many": 5}
"""Of one record, by configuration."""
CONFIGURATIONS = {
    "json": "store = []",
    "text": 'store = []\n[[output]]\npath = "/t"\nformat = "text"\n'
    'template = "%(message)s %(x)s %(message)s %(x)s %(message)s %(name)-900s"',
    "many": '[[store]]\ntype = "parquet"\n[[output]]\npath = "/a"\n[[output]]\npath = "/b"\nlevel = 15\n'
    '[[output]]\npath = "/c"\nformat = "text"\n[[output]]\npath = "/d"\nformat = "text"\ntemplate = "%(x)s%(x)s%(x)s"\n'
    '[[store]]\ntype = "nats"\nlevel = 15\n',
}
LEFT_TO_PYTHON = call(named("builtins", "complex"), b"G" + bytes(8), b"G" + bytes(8))
CHARACTERS = ("a", '"', "\\", "\n", "\t", "\x01", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\udcff", "é", "😀")


def record(value: bytes, message: bytes = text("m"), *, slow: bool = False) -> bytes:
    """Return a record with the opcodes of its extra attribute x."""
    odd = text("odd") + LEFT_TO_PYTHON if slow else b""
    usual = [text("name"), text("h"), text("levelno"), b"K\x14", text("msg"), message, text("created"), CREATED]
    return b"".join([b"\x80\x02}(", *usual, odd, text("x"), value, b"u."])


def again(value: bytes, count: int) -> bytes:
    """Return a list of one value, and of it again and again."""
    return b"](" + value + b"q\x01" + b"h\x01" * (count - 1) + b"e"


def _texts(chance: random.Random, size: int) -> bytes:
    one = chance.choice(CHARACTERS)
    long = "".join(
        chance.choice((one, one, one, "a", chance.choice(CHARACTERS))) for _ in range(chance.randrange(1, 40))
    )
    whole = text(long * (1 + size // (4 * len(long))))
    return whole if chance.randrange(2) else again(whole, max(2, size // 4))


def _octets(chance: random.Random, size: int) -> bytes:
    octets = bytes([chance.choice((255, 0, 0x80, 0x5C, 0x41))]) * (1 + size // 2)
    opcode = chance.choice((b"T", b"B"))
    return again(opcode + struct.pack("<I", len(octets)) + octets, max(2, size // 4))


def _numbers(chance: random.Random, size: int) -> bytes:
    one = chance.choice(
        (
            *(b"K\x01", b"N", b"\x89", b"G" + struct.pack(">d", chance.random()), b"J" + chance.randbytes(4)),
            *(b"\x8b\xa4\x06\0\0" + b"\x7f" * 1_700, b"L" + b"9" * 4_090 + b"L\n", b"L" + b"9" * 19 + b"L\n"),
            *(b"F1e300\n", b"I01\n", b"\x8a\x09" + b"\x7f" * 9, b"G\x7f\xf8" + bytes(6)),
        )
    )
    if chance.randrange(2):
        return b"](" + one * max(1, min(size // len(one), 49_000)) + b"e"
    return again(one, max(2, size // 2))


def _containers(chance: random.Random, size: int) -> bytes:
    one = chance.choice((b"]", b")", b"}", b"\x8f", b"(t", b"N\x85", b"(N\x91", b"](NNe", b"}(NNu", b"}K\x01Ns"))
    kind = chance.randrange(4)
    if kind == 0:
        return b"](" + one * min(size // len(one), 19_000) + b"e"
    if kind == 1:
        depth = chance.randrange(2, 190)
        return b"](" + (b"N" + b"\x85" * depth) * max(1, min(size, 19_000) // depth) + b"e"
    if kind == 2:
        inner = b"](" + one * chance.randrange(1, 400) + b"e"
        return again(inner, max(2, size // 2))
    # Each list has the one before it several times: exponential if it were written out.
    levels = b"".join(b"](" + b"h\x05" * chance.randrange(2, 9) + b"eq\x05" for _ in range(min(90, size // 12 + 1)))
    return b"](" + b"]q\x05" + levels + b"e"


def _keys(chance: random.Random, size: int) -> bytes:
    count = max(1, min(size // 4, 15_000))
    key = chance.choice(
        (
            *(lambda n: b"M" + struct.pack("<H", n), lambda n: b"K" + bytes([n % 256]), lambda n: text(f"k{n}")),
            *(
                lambda _: b"N",
                lambda n: b"M" + struct.pack("<H", n) + b"\x85",
                lambda n: b"U\x02" + struct.pack("<H", n),
            ),
            *(lambda n: b"h\x02K" + bytes([n % 256]) + b"\x86", lambda n: b"J" + struct.pack("<I", n << 15)),
        )
    )
    return (
        b"}("
        + text("n")
        + text("\x85" * (1 + size // 100))
        + b"q\x02"
        + b"".join(key(n) + b"N" for n in range(count))
        + b"u"
    )


OBJECTS: tuple[bytes, ...] = (
    call(named("uuid", "UUID")) + b"}" + text("int") + b"\x8a\x10" + bytes(range(1, 17)) + b"sb",
    call(named("decimal", "Decimal"), text("1" * 199)),
    call(named("fractions", "Fraction"), text("1" * 190 + "/3")),
    call(named("fractions", "Fraction"), b"\x8a\x52" + b"\x7f" * 82, b"K\x03"),
    call(named("ipaddress", "IPv6Address"), b"\x8a\x10" + bytes(range(1, 17))),
    call(named("ipaddress", "IPv4Address"), b"J\x01\x02\x03\x04"),
    call(named("datetime", "datetime"), b"C\x0a\x07\xea\x0b\x17\x03\x18\x05\x01\xe2\x40"),
    call(named("datetime", "time"), b"C\x06\x03\x18\x05\x01\xe2\x40"),
    call(named("datetime", "date"), b"C\x04\x07\xea\x0b\x17"),
    call(named("datetime", "timedelta"), b"K\x01", b"K\x02", b"K\x03"),
    call(named("pathlib", "PurePosixPath"), *[text("a" * 150)] * 99, text("/x")),
    call(named("pathlib", "PureWindowsPath"), *[text("a/b")] * 99, text("c:/x")),
    call(named("builtins", "range"), b"K\x01", b"K\x02", b"K\x03"),
    LEFT_TO_PYTHON,
    call(named("builtins", "ValueError"), text("it's"), b"](NNe"),
    call(named("builtins", "set"), b"](NNe"),
    call(named("collections", "OrderedDict"), b"](" + b"](NNe" * 9 + b"e"),
    call(named("http", "HTTPStatus"), b"M\xc8\x00"),
    call(named("m" * 200, "n" * 200), b"N"),
    named("m" * 200, "n" * 200),
    named("signal", "Signals.SIGINT"),
    call(named("_codecs", "encode"), text("\xff" * 90), text("latin1")),
    call(call(named("a", "b"), b"N"), b"N"),
    call(named("copyreg", "__newobj__"), named("a", "b"), *[b"N"] * 90),
    call(named("shop", "Order")) + b"N}(" + text("a") + b"N" + text("b") + b"Nu\x86b",
)


def _objects(chance: random.Random, size: int) -> bytes:
    one = chance.choice(OBJECTS)
    kind = chance.randrange(3)
    if kind == 0:
        return again(one, max(2, min(size // 2, 50_000)))
    if kind == 1:
        return b"](" + one * max(1, min(size // len(one), 6_000)) + b"e"
    # One class and one tuple of arguments, called again and again: each is an object of its own.
    if b"(" not in one or not one.endswith(b"tR"):
        return again(one, max(2, size // 2))
    name, _, arguments = one.partition(b"(")
    return b"](" + name + b"q\x02(" + arguments[:-1] + b"q\x03R" + b"h\x02h\x03R" * min(size // 5, 9_000) + b"e"


def _work(chance: random.Random, size: int) -> bytes:
    """Return opcodes that leave nothing."""
    one = chance.choice(
        (
            *(b"N0", b"20", b"(1", b"]0", b")0", b"(N1", b"q\x02", b"h\x010", b"}0", b"\x94", b"(NNt0", b"ca\nb\n0"),
            *(
                b"2\x850",
                b"r\xff\xff\x00\x00",
                b"p9\n",
                b"V\\u0041\n0",
                b"S'\\x41'\n0",
                b"((1" + b"1",
                b"F1\n0",
                b"L1L\n0",
            ),
        )
    )
    return b"Nq\x01" + one * (size // len(one))


def _flat(chance: random.Random, size: int) -> bytes:
    """Return further attributes, each of them the same text."""
    one = chance.choice(CHARACTERS) * (1 + size // 4)
    return text(one) + b"q\x01" + b"".join(text(f"y{n}") + b"h\x01" for n in range(min(60, 2 + size // 9)))


def _broken(chance: random.Random, size: int) -> bytes:
    """Return what Python judges after all of it was read."""
    return (
        b"0" * chance.randrange(2) + b"](" + b"N" * min(size, 100_000) + b"e" + chance.choice((b"\xff", b"P", b"0.."))
    )


FAMILIES: dict[str, Callable[[random.Random, int], bytes]] = {
    "texts": _texts,
    "octets": _octets,
    "numbers": _numbers,
    "containers": _containers,
    "keys": _keys,
    "objects": _objects,
    "work": _work,
    "flat": _flat,
    "broken": _broken,
}


class Cost(NamedTuple):
    """What one frame made a Dispatcher do."""

    family: str
    configuration: str
    frame: bytes
    seconds: float
    lines_bytes: int
    longest: int
    """Bytes of the longest line."""

    @property
    def microseconds_a_byte(self) -> float:
        """Time for each byte of a frame, its header included."""
        return self.seconds * 1e6 / (len(self.frame) + 4)

    @property
    def output_a_byte(self) -> float:
        """Bytes of all lines for each of a frame, beyond what any record may have."""
        return max(0, self.lines_bytes - LINES[self.configuration] * 8_192) / (len(self.frame) + 4)

    def __str__(self) -> str:
        return (
            f"{self.family:12} {self.configuration:5} {len(self.frame):8,} B {self.seconds * 1e3:8.2f} ms"
            f" {self.microseconds_a_byte:6.2f} us/B {self.lines_bytes / len(self.frame):7.1f} B/B"
        )


def dispatcher(configuration: str) -> Dispatcher:
    """Return what makes lines under one of the configurations."""
    settings = loads(CONFIGURATIONS[configuration], "", {"state_dir": "/nowhere"})
    return Dispatcher(Configuration(1, settings, tuple(range(1, len(settings.output) + 1))))


def make(chance: random.Random, largest: int) -> tuple[str, bytes]:
    """Return a frame, and of which family it is."""
    family = chance.choice(list(FAMILIES))
    size = int(largest ** chance.uniform(0.2, 1))
    value = FAMILIES[family](chance, size)
    message = text(chance.choice(CHARACTERS) * chance.choice((1, 1, 1 + size // 8)))
    return family, record(value, message, slow=bool(chance.randrange(2)))


def cost(one: Dispatcher, family: str, configuration: str, frame: bytes, times: int = 1) -> Cost:
    """Let a Dispatcher take a frame, at best of several times."""
    data = struct.pack(">I", len(frame)) + frame
    best = 1e9
    for _ in range(times):
        start = time.thread_time()
        one.run(data, 0, 1, 1 << 28, "192.0.2.7:40000", 1_795_404_250.5)
        best = min(best, time.thread_time() - start)
        outgoing = one.batch.build(1)
    sizes = [len(piece) for piece in (*outgoing.pieces[1:], *outgoing.shared)]
    return Cost(family, configuration, frame, best, sum(sizes), max(sizes, default=0))


def search(seed: int, seconds: float, most: int = sys.maxsize, largest: int = 60_000, times: int = 1) -> list[Cost]:
    """Try frames for a while, at most so many; return what each cost."""
    chance = random.Random(seed)
    gc.set_threshold(50_000, 20, 50)  # as a worker's is
    dispatchers = {name: dispatcher(name) for name in CONFIGURATIONS}
    found = []
    end = time.monotonic() + seconds
    while len(found) < most and time.monotonic() < end:
        family, frame = make(chance, largest)
        name = chance.choice(list(CONFIGURATIONS))
        found.append(cost(dispatchers[name], family, name, frame, times))
    return found


def main() -> int:
    """Print the dearest frames."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.dearest", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFFFFFF)
    parser.add_argument("--largest", type=int, default=1_000_000, help="bytes of a frame, about")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    found = search(arguments.seed, arguments.seconds, largest=arguments.largest, times=2)
    for what, key in (
        ("time for a byte", lambda one: one.microseconds_a_byte),
        ("time", lambda one: one.seconds),
        ("output for a byte", lambda one: one.output_a_byte),
    ):
        print(f"Of {len(found):,} frames, those that cost most {what}:")
        for one in sorted(found, key=key, reverse=True)[:12]:
            print(" ", one, one.frame[80:140])
    return 0


if __name__ == "__main__":
    sys.exit(main())

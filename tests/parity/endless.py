"""`python -m tests.parity.endless --seconds 600`: random pickles for as long as one likes, by the core and by Python.

Owns how they are made: values of every kind that the core knows by each of pickle's protocols, opcodes strung together
by what they take from the stack, and both damaged or cut. The seed is printed; with it a run can be repeated.
"""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import decimal
import fractions
import pathlib
import pickle
import random
import struct
import sys
import time
import uuid
from typing import Any

from tests.parity import sides
from tests.support import corpus
from tests.support.assemble import named, record, text
from tests.support.corpus import mutated

TEXTS = (
    "",
    "a",
    "plain text of a message",
    'a "quote"',
    "back\\slash",
    "line\nline\ttab",
    "é€😀",
    "\ud800",
    "\u2028\x7f\x85",
)
KEYS = (
    "name",
    "msg",
    "levelno",
    "created",
    "args",
    "exc_info",
    "exc_text",
    "lineno",
    "thread",
    "taskName",
    "x",
    "é",
    "1",
)
NAMES = (
    ("datetime", "datetime"), ("datetime", "timedelta"), ("decimal", "Decimal"), ("uuid", "UUID"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"), ("__builtin__", "set"), ("builtins", "getattr"), ("copy_reg", "_reconstructor"),
    ("copyreg", "__newobj__"), ("copyreg", "__newobj_ex__"), ("builtins", "object"), ("builtins", "tuple"),
    ("exceptions", "ValueError"), ("pathlib", "PosixPath"), ("shop.models", "Order"), ("http", "HTTPStatus.OK"),
)  # fmt: skip


class Maker:
    """Makes pickles from one seed."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.seeds = [payload.data for payload in corpus.frames() if 0 < len(payload.data) < 3_000]

    def one(self) -> bytes:
        """Return a pickle, or what is left of one."""
        chance = self.chance
        kind = chance.randrange(8)
        if kind < 3:
            data = pickle.dumps(self._attributes(), chance.randrange(pickle.HIGHEST_PROTOCOL + 1))
        elif kind < 6:
            # The memo is full of texts, which may be put anywhere; what is remembered later takes their places.
            before = b"".join(text(chance.choice(TEXTS[:5])) + b"q%c0" % number for number in range(8))
            data = record(*[self._opcodes(3) for _ in range(chance.randrange(1, 4))], before=before)
        else:
            data = mutated(chance, self.seeds)
        damage = chance.randrange(12)
        if damage == 0:
            data = data[: chance.randrange(len(data) + 1)]
        elif damage == 1:
            data = mutated(chance, [data or b"."])
        return data

    def _attributes(self) -> dict[Any, Any]:
        chance = self.chance
        usual = {"name": "shop.views", "msg": "said", "args": None, "created": 1.5, "levelno": 20}
        found = usual if chance.randrange(4) else {}
        shared = self._value(3)
        for _ in range(chance.randrange(12)):
            key = chance.choice(KEYS) if chance.randrange(12) == 0 else f"{chance.choice(TEXTS)}{chance.randrange(9)}"
            found[key] = shared if chance.randrange(6) == 0 else self._value(4)
        return found

    def _value(self, depth: int) -> Any:
        chance = self.chance
        kind = chance.randrange(22 if depth else 15)
        if kind < 4:
            return chance.choice(TEXTS) * chance.choice((1, 1, 1, 3, 40))
        makers = {
            4: lambda: chance.randrange(-300, 70_000),
            5: lambda: chance.getrandbits(chance.choice((8, 31, 32, 63, 64, 65, 200))) * chance.choice((1, -1)),
            6: lambda: struct.unpack("<d", struct.pack("<Q", chance.getrandbits(64)))[0],
            7: lambda: chance.choice((None, True, False, 0.5, -0.0, 1e300)),
            8: lambda: chance.randbytes(chance.choice((0, 1, 5, 300))),
            9: lambda: dt.datetime.fromtimestamp(chance.uniform(0, 4e9), chance.choice((None, dt.UTC))),
            10: lambda: dt.timedelta(chance.randrange(-999, 999), chance.randrange(90_000), chance.randrange(10**6)),
            11: lambda: decimal.Decimal(chance.randrange(10**9)).scaleb(-chance.randrange(12)),
            12: lambda: uuid.UUID(int=chance.getrandbits(128)),
            13: lambda: pathlib.PurePosixPath(*chance.choices(("a", "..", "/srv", "b c", ""), k=3)),
            14: lambda: ValueError(chance.choice(TEXTS), chance.randrange(9)),
            15: lambda: [self._value(depth - 1) for _ in range(chance.randrange(5))],
            16: lambda: tuple(self._value(depth - 1) for _ in range(chance.randrange(5))),
            17: lambda: {chance.choice(TEXTS): self._value(depth - 1) for _ in range(chance.randrange(5))},
            18: lambda: {chance.choice((1, 2, "1", None, True, (1,), 2.5)): self._value(depth - 1) for _ in range(3)},
            19: lambda: {chance.randrange(99) for _ in range(chance.randrange(5))},
            20: lambda: collections.OrderedDict(a=self._value(depth - 1), b=fractions.Fraction(1, 3)),
            21: lambda: collections.deque([self._value(depth - 1)], 3),
        }
        return makers[kind]()

    def _opcodes(self, depth: int) -> bytes:
        """Return opcodes that put one value on the stack, as far as nothing is wrong with them."""
        chance = self.chance
        inner = [self._opcodes(depth - 1) for _ in range(chance.randrange(4))] if depth else []
        number = bytes([chance.randrange(8)])
        texts = [text(one) for one in TEXTS if one != "\ud800"]
        leaves = (
            lambda: b"K" + number, lambda: b"N", lambda: b"\x88", lambda: b"G" + chance.randbytes(8), lambda: b")",
            lambda: chance.choice(texts), lambda: b"h" + number, lambda: b"j" + number + bytes(3), lambda: b"2",
            lambda: b"U" + number + chance.randbytes(number[0]), lambda: b"C" + number + chance.randbytes(number[0]),
            lambda: b"\x8a" + number + chance.randbytes(number[0]), lambda: b"I%d\n" % chance.randrange(-99, 99),
            lambda: b"F%g\n" % chance.uniform(-9, 9), lambda: b"S'\\x4%da\\n'\n" % number[0],
            lambda: b"V\\u20ac\n",
            lambda: named(*chance.choice(NAMES)), lambda: text("shop") + text("Cart") + b"\x93", lambda: b"]",
            lambda: b"}", lambda: b"\x8f", lambda: b"\x8c" + number + b"abcdefgh"[: number[0]],
        )  # fmt: skip
        joined = b"".join(inner)
        nested = (
            lambda: b"(" + joined + b"l", lambda: b"(" + joined + b"t", lambda: b"](" + joined + b"e",
            lambda: b"}(" + b"".join(chance.choice(texts) + one for one in inner) + b"u", lambda: b"(" + joined + b"d",
            lambda: named(*chance.choice(NAMES)) + b"(" + joined + b"tR", lambda: b"(" + joined + b"\x91",
            lambda: named(*chance.choice(NAMES)) + b"(" + joined + b"t\x81", lambda: b"\x8f(" + joined + b"\x90",
            lambda: named(*chance.choice(NAMES)) + b"(" + joined + b"t}\x92",
            lambda: b"(" + named(*chance.choice(NAMES)) + joined + b"o",
            lambda: b"(" + joined + b"ishop\nOrder\n", lambda: named("shop", "Cart") + b")R" + joined[:200] + b"b",
            lambda: named("shop", "Cart") + b")R}" + chance.choice(texts) + b"K\1s" + b"b",
            lambda: named("uuid", "UUID") + b")\x81}" + text("int") + b"\x8a\x10" + chance.randbytes(16) + b"sb",
        )  # fmt: skip
        made = chance.choice(nested if inner and chance.randrange(3) else leaves)()
        return made + (b"q" + number if chance.randrange(4) == 0 else b"\x94" if chance.randrange(12) == 0 else b"")


def main() -> int:
    """Return 0 unless the two differ, which is an AssertionError with the pickle."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity.endless", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=time.time_ns() & 0xFFFFFFFF)
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    tried, rendered, rejected = run(arguments.seed, arguments.seconds)
    print(f"{tried:,} pickles: {rendered:,} by the core, as by Python; of the others {rejected:,} rejected by Python")
    return 0


def run(seed: int, seconds: float, most: int = sys.maxsize) -> tuple[int, int, int]:
    """Try pickles for a while, at most so many; return how many there were, rendered by the core, rejected."""
    maker, core = Maker(seed), sides.core()
    tried = rendered = rejected = 0
    end = time.monotonic() + seconds
    while tried < most and time.monotonic() < end:
        data = maker.one()
        tried += 1
        if sides.agree(core, data):
            rendered += 1
        else:
            rejected += isinstance(sides.by_python(data), sides.Rejected)
    return tried, rendered, rejected


if __name__ == "__main__":
    sys.exit(main())

"""Makes series of records that have parts in common, as the octets of an input choose.

Owns a grammar of records: the values of each place in the code and of each thread, in every opcode that a value may
have, further attributes of the same forms, and the changes of some records. Does not know readers. A fuzzer that
changes octets of one frame seldom makes two records with the same place, and the core remembers places and forms.
"""

from __future__ import annotations

import struct

SITE = (
    "args",
    "levelname",
    "levelno",
    "pathname",
    "filename",
    "module",
    "exc_info",
    "exc_text",
    "stack_info",
    "lineno",
    "funcName",
)
ORIGIN = ("thread", "threadName", "processName", "process")
TEXTS = (
    b"INFO", b"shop", b"", b"a", b"/srv/shop/views.py", b"views", b"\n", b'"\\', b"\x00\x1f", b"\x7f", b"\xc2\x85",
    b"\xed\xa0\x80", b"\xed\xb0\x80\xed\xa0\x80", b"\xff", b"\xc3", b"\xe2\x80\xa8", b"\xf0\x9f\x98\x80",
    b"\xf4\x90\x80\x80", b"\xc0\x80", b"'q'", b"u'q'", b"password=x", b"4111111111111111", b"x" * 15, b"x" * 31 + b"\n",
    b"x" * 300, b"y" * 449,
)  # fmt: skip
INTEGERS = (
    20,
    0,
    1,
    255,
    256,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    -1,
    -(2**31),
    2**47,
    2**63 - 1,
    2**63,
    -(2**63),
    2**64,
    10**18,
)
ODD = (
    b"N", b"\x88", b"I01\n", b"I00\n", b"h\x00", b"h\x03", b"h\x09", b"G" + bytes(8), b")", b"(K\x01t", b"]", b"}",
    b"L00L\n", b"I-0\n", b"I 7\n", b"L1_0L\n",
)  # fmt: skip
"""Values that a field seldom has, as opcodes."""
KEYS = (b"id", b"path", b"name", b"value", b"key", b"token", b"\xc3\xbc", b"extra", b"x" * 40)
STAMPS = (
    b"\x07\xc3\xaa\x01\x02\x03\x04\x05\0\0\0",
    b"\x07\xc3\xaa\x0d" + bytes(7),
    bytes(10),
    b"\xc3",
    b"\xc4\x80" * 5,
)
DECIMALS = (b"12.50", b"-1E+5", b"NaN", b"", b"1" * 201, b".", b'"')
DIGITS = (b"1" * 38, b"9" * 39, b"1" * 40, b"0", b"-7", b"", b"1_0")


class Choices:
    """Gives out the octets of an input, and zeros behind its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.is_ours = self.below(4) == 3
        """Whether records are pickled as by our handler: by protocol 4, without a memo."""

    def below(self, most: int) -> int:
        """Return a number below `most`, which is at most 256."""
        self._at += 1
        return self._data[self._at - 1] % most if self._at <= len(self._data) else 0

    def of(self, values):
        """Return one of some values."""
        return values[self.below(len(values))]

    @property
    def is_over(self) -> bool:
        """Whether all octets were given out."""
        return self._at >= len(self._data)


def _text(choices: Choices, value: bytes | None = None) -> bytes:
    # Usual texts come most often: a record with several odd ones is left to Python.
    value = choices.of(TEXTS if choices.below(3) else TEXTS[:5]) if value is None else value
    if choices.is_ours and len(value) < 256:
        return b"\x8c" + bytes((len(value),)) + value  # SHORT_BINUNICODE
    if choices.below(24) == 23 and len(value) < 256:
        return b"U" + bytes((len(value),)) + value  # SHORT_BINSTRING
    return b"X" + struct.pack("<L", len(value)) + value


def _integer(choices: Choices, kind: int | None = None) -> bytes:
    number = choices.of(INTEGERS)
    kind = choices.below(6) if kind is None else kind
    if kind == 0 and 0 <= number < 256:
        return b"K%c" % number  # BININT1
    if kind <= 1 and 0 <= number < 65_536:
        return b"M" + struct.pack("<H", number)  # BININT2
    if kind <= 2 and -(2**31) <= number < 2**31:
        return b"J" + struct.pack("<l", number)  # BININT
    if kind == 3:
        return b"I%d\n" % number
    if kind == 4:
        octets = number.to_bytes(number.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a%c" % len(octets) + octets  # LONG1
    return b"L%dL\n" % number


def _odd(choices: Choices) -> bytes:
    """Return a value that a field seldom has."""
    return choices.of(ODD)


def _values(choices: Choices, names: tuple[str, ...]) -> list[tuple[bytes, bytes]]:
    """Return keys and values of a group, each as opcodes without numbers of the memo."""
    pairs = []
    for name in names:
        if name in ("args", "exc_info", "exc_text", "stack_info"):
            value = b"N" if choices.below(12) else _text(choices)
        elif choices.below(48) == 47:
            value = _odd(choices)
        elif name in ("levelno", "lineno", "thread", "process"):
            value = _integer(choices)
        else:
            value = _text(choices)
        pairs.append((_text(choices, name.encode()), value))
    swap = choices.below(64)
    if swap > 56:
        pairs.insert(swap % len(pairs), pairs.pop())
    return pairs


Part = bytes | None
"""Opcodes; None: a number of the memo, if the pickler memoizes."""
_INTEGERS = ("octet", "two octets", "four octets", "line", "octets", "long line")
"""What an integer is written as, if it fits: the opcodes of `_integer`, in their order."""
Form = str | dict[bytes, "Form"] | list["Form"]


def _form(choices: Choices, depth: int = 0) -> Form:
    """Return what a further attribute holds: containers, and the kinds of values in them."""
    kind, dicts = choices.below(8), (5, 2, 1, 0)[depth]
    if kind < dicts:
        return {choices.of(KEYS): _form(choices, depth + 1) for _ in range(1 + choices.below(4))}
    if kind < dicts + (depth < 3):
        return [_form(choices, depth + 1) for _ in range(choices.below(4))]
    return choices.of(("text", "text", *_INTEGERS, "real", "odd", "uuid", "decimal", "datetime"))


def _filled(choices: Choices, form: Form) -> list[Part]:
    """Return a value of a form, as a pickler of protocol 1 writes it."""
    if isinstance(form, dict):
        members = [part for key, one in form.items() for part in (_text(choices, key), None, *_filled(choices, one))]
        return [b"}", None, b"(", *members, b"u"]
    if isinstance(form, list):
        return [b"]", None, b"(", *(part for one in form for part in _filled(choices, one)), b"e"]
    if form == "uuid":
        digits = choices.of(DIGITS[:1] if choices.below(3) else DIGITS)
        return [
            *(
                b"ccopy_reg\n_reconstructor\n",
                None,
                b"(cuuid\nUUID\n",
                None,
                b"c__builtin__\nobject\n",
                None,
                b"Nt",
                None,
            ),
            *(b"R", None, b"}", None, b"X\3\0\0\0int", None, b"L" + digits + b"L\nsb"),
        ]
    if form == "decimal":
        text = _text(choices, choices.of(DECIMALS[:1] if choices.below(3) else DECIMALS))
        return [b"cdecimal\nDecimal\n", None, b"(", text, None, b"t", None, b"R", None]
    if form == "datetime":
        text = _text(choices, choices.of(STAMPS[:1] if choices.below(3) else STAMPS))
        encoded = [b"c_codecs\nencode\n", None, b"(", text, None, b"X\6\0\0\0latin1", None, b"t", None, b"R", None]
        return [b"cdatetime\ndatetime\n", None, b"(", *encoded, b"t", None, b"R", None]
    if form in _INTEGERS:
        return [_integer(choices, _INTEGERS.index(form))]
    if form == "real":
        return [b"G" + choices.of((bytes(8), b"?\xf8" + bytes(6), b"\x7f\xf8" + bytes(6), b"\xff\xf0" + bytes(6)))]
    return [_odd(choices)] if form == "odd" else [_text(choices), None]


def _frame(
    choices: Choices,
    groups: list[list[tuple[bytes, bytes]]],
    nested: list[tuple[bytes, list[Part]]],
    memo: int,
    number: int,
) -> bytes:
    """Return the body of a record's frame: its dict, with or without the numbers of a pickler that memoizes."""
    memo = 0 if choices.is_ours else memo
    parts = [b"\x80\x04" if choices.is_ours else choices.of((b"", b"", b"\x80\x02")), b"}"]

    def put() -> None:
        nonlocal number
        if memo and number < 256:
            parts.append(b"q%c" % number)
            number += 1

    put()
    parts.append(b"(")
    for key, value in [pair for group in groups for pair in group]:
        parts.append(key)
        put()
        parts.append(value)
        if value[:1] in b"XU" and memo < 3:
            put()
    for key, value_parts in nested:
        for part in (key, None, *value_parts):
            if part is None:
                put()
            else:
                parts.append(part)
    parts.append(b"u.")
    return b"".join(parts)


def _changed(choices: Choices, body: bytes) -> bytes:
    """Return a frame of which an octet is another one, missing or new, or which ends early."""
    at = (choices.below(256) << 8 | choices.below(256)) % len(body)
    how = choices.below(5)
    if how == 0:
        return body[:at]
    if how == 1:
        return body[:at] + body[at + 1 :]
    octet = b"%c" % choices.below(256)
    if how == 2:
        return body[:at] + octet + body[at:]
    return body[:at] + (b"%c" % (body[at] ^ 1 << octet[0] % 8) if how == 3 else octet) + body[at + 1 :]


def frames(data: bytes, most: int) -> list[bytes]:
    """Return the bodies of at most `most` frames that the octets of `data` choose."""
    choices = Choices(data)
    sites = [_values(choices, SITE) for _ in range(1 + choices.below(3))]
    origins = [_values(choices, ORIGIN) for _ in range(1 + choices.below(2))]
    # Under the name and number of the memo that they mostly have, as a form is known by these.
    forms = [(choices.of(KEYS), _form(choices)) for _ in range(1 + choices.below(2))]
    memo, number, plain = 3 - choices.below(4), choices.of((0, 0, 0, 0, 1, 200, 250)), choices.below(2)
    made: list[bytes] = []
    while len(made) < most:
        begin = [(_text(choices, b"name"), _text(choices)), (_text(choices, b"msg"), _text(choices))]
        created = [(b"X\x07\0\0\0created", b"G" + struct.pack(">d", 1_795_404_245.125))]
        further = [(_text(choices, b"key%d" % choices.below(3)), _text(choices)) for _ in range(choices.below(3))]
        if plain:
            begin = [(b"X\4\0\0\0name", b"X\4\0\0\0shop"), (b"X\3\0\0\0msg", b"X\4\0\0\0said")]
        nested = [
            (_text(choices, name if choices.below(8) else choices.of(KEYS)), _filled(choices, form))
            for name, form in forms
            if choices.below(8)
        ]
        groups = (
            [begin, created, further] if plain else [begin, choices.of(sites), created, choices.of(origins), further]
        )
        if choices.below(8) == 7:
            memo, number = 3 - choices.below(4), choices.of((0, 0, 0, 0, 1, 200, 250))
        body = _frame(choices, groups, nested, memo, number)
        made += [body] * (1 + choices.below(3))
        if choices.below(3) == 2:
            made += [_changed(choices, body), body]
        if choices.is_over:
            break
    return made[:most]

"""Lists records and lines that some readers of JSON cannot read.

Owns `records`, lines of possible records in the collector's form, and `foreign`, lines that no collector has written,
each with whether it is a record nevertheless.
"""

from __future__ import annotations

from prefork_logd.records.record import make_record
from prefork_logd.records.render import render_json

PEER = "192.0.2.7:40000"
NOW = 1_795_404_245.125


def _nested(depth: int) -> object:
    value: object = "end"
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


ATTRIBUTES = [
    {"msg": "cannot open /data/caf\udce9.csv"},
    {"msg": "\ud83d", "name": "shop\udcff", "threadName": "\udc80"},
    {"msg": "of emoji the first half \ud83d and a whole one \U0001f600"},
    {"msg": "x", "path": "/data/caf\udce9.csv", "\udc80": ["\ud800", {"\udfff": "\x7f0041"}]},
    {"msg": "\x7fdcff \udcff \\udcff \\\udcff \\\\", "name": "\x7f"},
    {"msg": "\x00 \r \n \x1b \x85 \u2028 \ufeff", "exc_text": "a\r\nb\x00"},
    {"msg": "integers", "n": 10**40, "m": 2**70, "least": -(2**63) - 1, "long": 10**4093},
    {"msg": "floats", "inf": "inf", "tiny": 5e-324, "huge": 1.7e308, "zero": -0.0},
    {"msg": "deep", "d": _nested(199)},
    {"msg": "deep with a surrogate", "d": _nested(199), "s": "\udcff"},
    {"msg": "empty", "a": {}, "b": [], "c": "", "d": None, "": ""},
    {"msg": "no level", "levelno": None, "name": None},
    {"msg": "a level of its own", "levelno": 25, "levelname": "NOTICE"},
    {"msg": "levels without end", "levelno": 10**30, "lineno": -(10**30), "process": "7", "thread": True},
    {"msg": ["no", "text"], "levelno": "40", "args": ["\udcff"]},
    {"msg": "long " + "x" * 10_000_000},
    {"msg": '},"extra":5,"levelno":50,{"name":"x"', "extra": {"extra": 5}, "created": "never"},
    {"msg": "[" * 5000 + "{" * 5000, "text": '"[{' * 2000},
    {"created": 7_258_118_399.5},
    {},
]
"""Attributes of records as the decoder returns them; `records` adds a missing logger and level."""


def records() -> list[bytes]:
    """Return the lines of ATTRIBUTES."""
    common = {"name": "shop.cart", "levelno": 20, "levelname": "INFO"}
    return [render_json(make_record({**common, **attributes}, PEER, NOW)) for attributes in ATTRIBUTES]


def _with(extra: bytes) -> bytes:
    return b'{"created":1.5,"time":"x","name":"a","levelno":40,"message":"m","extra":%b}\n' % extra


foreign: list[tuple[bytes, bool]] = [
    (_with(b'{"n":%b}' % (b"1" * 5000)), True),
    (_with(b'{"n":-%b}' % (b"1" * 5000)), True),
    (_with(b'{"f":1e400,"g":-1e400}'), True),
    (_with(b'{"a":1,"a":2}'), True),
    (_with(b'{"s":"\\uDCFF \\uD83D\\uDE00","d":"\x7fdcff"}'), True),
    (_with(b'{"s":"\\ud83d\\ude00 \\udcff"}'), True),
    (_with(b"{}").replace(b"\n", b"\r\n"), True),
    (b' { "created" : 1.5 , "levelno" : 40 } \n', True),
    (b'{"created":1.5,"created":2.5,"levelno":50,"levelno":40}\n', True),
    (b'{"created":1.5,"levelno":null,"name":null,"peer":null,"unknown":[{}]}\n', True),
    (_with(b"[" * 200 + b"]" * 200).replace(b'"extra":', b'"unknown":'), True),
    (_with(b'{"a":%b}' % (b"[" * 240 + b"]" * 240)), True),
    (_with(b'{"a":%b}' % (b"[" * 260 + b"]" * 260)), False),
    (_with(b'{"a":%b}' % (b'{"k":' * 950 + b"1" + b"}" * 950)), False),
    (_with(b'{"a":%b}' % (b"[" * 100_000 + b"]" * 100_000)), False),
    (_with(b'{"a":%b,"s":"\\udcff"}' % (b"[" * 100_000 + b"]" * 100_000)), False),
    (_with(b'{"a":"\xff"}'), False),
    (_with(b'{"a":"\xed\xa0\x80"}'), False),
    (_with(b"{}").replace(b'"m"', b'"\xff"'), False),
    (_with(b'{"n":NaN}'), False),
    (_with(b'{"n":Infinity}'), False),
    (_with(b"5"), False),
    (_with(b"[]"), False),
    (_with(b"null"), False),
    (_with(b"{}").replace(b'"m"', b'"\x00"'), False),
    (_with(b"{}").replace(b'"m"', b'"\x1f"'), False),
    (_with(b"{}").replace(b'"m"', b'"\x00\\udcff"'), False),
    (b"\x00" * 64 + _with(b"{}"), False),
    (b"\xef\xbb\xbf" + _with(b"{}"), False),
    (_with(b"{}").replace(b"40", b"99999999999999999999"), False),
    (_with(b"{}").replace(b"40", b'"40"'), False),
    (_with(b"{}").replace(b"40", b"40.5"), False),
    (b'{"created":"1.5"}\n', False),
    (b'{"created":1e400}\n', False),
    (b'{"created":-1}\n', False),
    (b'{"created":1.5,"received":1e300}\n', False),
    (b'{"created":1.5,"received":-1}\n', False),
    (b'{"created":1.5}{"created":1.5}\n', False),
    (b'{"message":"no time"}\n', False),
    (b"{}\n", False),
    (b"[]\n", False),
    (b"null\n", False),
    (b"\n", False),
    (b'{"created":1.5,"message":"tor\n', False),
    (b'{"created":1.5,"message":"\\ud8\n', False),
]
"""Lines with whether each is a record."""

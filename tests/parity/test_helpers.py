"""What the compiled core does for the Python modules: the same as they do by themselves."""

import random

import msgspec
import pytest

from prefork_logd.inputs.pickles import opcodes
from prefork_logd.records import render

speedups = pytest.importorskip("prefork_logd.ingest._core_c")

CHARACTERS = ("a", '"', "\\", "\n", "\x01", "\x7f", "\x85", "é", "\u2028", "\ud800", "\udcff", "\ufeff", "😀")
PIECES = (b"a", b"\\", b"\\x41", b"\\x4", b"\\xZZ", b"\\n", b"\\'", b"\\q", b"\\1", b"\x80", b"\\\\", b"'", b"\\x")


def _texts():
    chance = random.Random(5)
    yield from ("", *CHARACTERS)
    for _ in range(300):
        yield "".join(chance.choices(CHARACTERS, k=chance.randrange(30)))


def test_text_with_lone_surrogates_is_decoded():
    """UTF-8 with them, and what is no UTF-8 is refused by both."""
    for text in _texts():
        data = text.encode("utf-8", "surrogatepass")
        assert speedups.decode_text(data) == opcodes.decode_text_in_python(data) == text
    for data in (
        b"\xff",
        b"a\x80",
        b"\xed\xa0",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xf4\x90\x80\x80",
        b"\xed\xb3\xbf\xc3",
    ):
        for decode in (speedups.decode_text, opcodes.decode_text_in_python):
            with pytest.raises(UnicodeDecodeError):
                decode(data)


def test_escapes_of_quoted_text_are_taken_back():
    """Those that are none stay as they are."""
    chance = random.Random(6)
    for _ in range(2_000):
        data = b"".join(chance.choices(PIECES, k=chance.randrange(8)))
        assert speedups.unquote(data) == opcodes.unquote_in_python(data)


def test_values_with_lone_surrogates_become_json():
    """Whatever stands beside them."""
    for text in _texts():
        value = {
            "created": 1.5,
            text + "key": [text, True, False, None, 1, -(1 << 70), 1e300, 0.1, [], {}, {text: text}],
            "raw": msgspec.Raw(b'{"a":"\xc2\x85\x7f\\\\"}'),
        }
        assert speedups.encode_marked(value) == render.encode_marked_in_python(value)

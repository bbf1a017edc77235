import logging
import pickle
import pickletools
import struct

import pytest

from prefork_logd.handlers import make_pickle
from prefork_logd.inputs.pickles.flat import MAX_BYTES, MAX_ITEMS, is_flat, load_flat
from tests.support import corpus

FLAT = {"name": "shop", "msg": "paid", "args": None, "levelno": 20, "created": 1795404245.125, "n": -70_000}
OPENINGS = {
    "python 3, protocol 1": (b"}q\x00(", b"X\x01\x00\x00\x00aq\x01"),
    "python 2, protocol 1": (b"}q\x01(", b"U\x01aq\x02"),
    "protocol 2": (b"\x80\x02}q\x00(", b"X\x01\x00\x00\x00aq\x01"),
    "python 2, protocol 2": (b"\x80\x02}q\x01(", b"U\x01aq\x02"),
    "protocol 3": (b"\x80\x03}q\x00(", b"X\x01\x00\x00\x00aq\x01"),
    "protocol 4": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}\x94(", b"\x8c\x01a\x94"),
    "protocol 5": (b"\x80\x05\x95\x10\0\0\0\0\0\0\0}\x94(", b"\x8c\x01a\x94"),
    "our handler": (b"\x80\x04\x95\x10\0\0\0\0\0\0\0}(", b"\x8c\x01a"),
    "our handler on python 2": (b"\x80\x02}(", b"U\x01a"),
}
SAFE = {
    "NONE", "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "NEWTRUE", "NEWFALSE", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINSTRING", "BINGET",
}  # fmt: skip


def _operand(opcode):
    """Return bytes that are a sound operand of a pickletools opcode."""
    if opcode.arg is None:
        return b""
    if opcode.arg.n >= 0:
        return b"\x01" + b"\x00" * (opcode.arg.n - 1)
    return {
        "decimalnl_short": b"1\n",
        "decimalnl_long": b"1L\n",
        "floatnl": b"1.5\n",
        "stringnl": b"'a'\n",
        "stringnl_noescape": b"a\n",
        "stringnl_noescape_pair": b"os\nsystem\n",
        "unicodestringnl": b"a\n",
        "string1": b"\x01a",
        "string4": b"\x01\0\0\0a",
        "bytes1": b"\x01a",
        "bytes4": b"\x01\0\0\0a",
        "bytes8": b"\x01\0\0\0\0\0\0\0a",
        "bytearray8": b"\x01\0\0\0\0\0\0\0a",
        "unicodestring1": b"\x01a",
        "unicodestring4": b"\x01\0\0\0a",
        "unicodestring8": b"\x01\0\0\0\0\0\0\0a",
        "long1": b"\x01\x05",
        "long4": b"\x01\0\0\0\x05",
    }[opcode.arg.name]


@pytest.mark.parametrize("protocol", range(1, 6))
def test_flat_records_are_taken(protocol):
    """What makePickle writes for a record without structured attributes goes the fast way, by protocols 1 to 5."""
    frame = pickle.dumps(FLAT, protocol)
    assert is_flat(frame)
    assert load_flat(frame) == FLAT


@pytest.mark.parametrize("is_short", [False, True])
def test_records_of_our_handler_are_taken(is_short):
    """Its pickles have no memo."""
    record = logging.makeLogRecord(FLAT)
    frame = make_pickle(record, is_short=is_short)
    assert "MEMOIZE" not in [opcode.name for opcode, _, _ in pickletools.genops(frame)]
    assert is_flat(frame)
    assert load_flat(frame) == pickle.loads(frame)


@pytest.mark.slow
def test_flat_records_of_the_corpus_are_taken():
    """Genuine plain records of every Python in the corpus go the fast way, except by protocol 0."""
    plain = [payload for payload in corpus.records() if payload.name.endswith(("-plain", "-unicode", "-exc-info"))]
    assert len(plain) > 25
    for payload in plain:
        assert is_flat(payload.data) == ("-p0-" not in payload.name), payload.name


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
@pytest.mark.parametrize("opcode", pickletools.opcodes, ids=lambda opcode: opcode.name)
def test_only_scalar_opcodes_get_through(opcode, opening):
    """In the place of a value, of a key, or between two items, no opcode but a scalar's is let through."""
    start, key = opening
    step = opcode.code.encode("latin-1") + _operand(opcode)
    if opcode.name not in SAFE:
        assert not is_flat(start + key + step + b"u.")
    assert not is_flat(start + step + b"Nu.") or opcode.name in {
        "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINSTRING", "BINSTRING", "BINGET",
    }  # fmt: skip
    assert not is_flat(start + key + b"N" + step + b"u.")
    assert not is_flat(start + key + b"N" + step + key + b"Nu.")
    assert not is_flat(step + start + key + b"Nu.")
    assert not is_flat(start + key + b"Nu" + step + b".")
    assert not is_flat(start + key + b"Nu." + step)


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS)
def test_dict_itself_cannot_be_referred_to(opening):
    """The memo's reference to the dict is not let through, neither as a value nor as a key."""
    start, key = opening
    # Without a number of its own it has the one that nothing may refer to, if any has.
    own = b"h\x01" if start.endswith((b"q\x01(", b"\x02}(")) else b"h\x00"
    assert is_flat(start + key + b"h\x02u.")
    assert not is_flat(start + key + own + b"u.")
    assert not is_flat(start + own + b"Nu.")


@pytest.mark.slow
def test_whatever_passes_uses_scalar_opcodes_only():
    """pickletools, which judges by itself, finds none but the expected opcodes in every payload that passes."""
    passed = 0
    allowed = SAFE | {"PROTO", "FRAME", "EMPTY_DICT", "MARK", "BINPUT", "MEMOIZE", "SETITEMS", "STOP"}
    for payload in corpus.frames():
        if is_flat(payload.data):
            try:
                opcodes = [opcode.name for opcode, _, _ in pickletools.genops(payload.data)]
            except UnicodeDecodeError:
                continue  # text that is not UTF-8, or a Python 2 str beyond ASCII: pickletools shows neither
            passed += 1
            assert set(opcodes) <= allowed
            assert [opcodes.count(name) for name in ("EMPTY_DICT", "MARK", "SETITEMS", "STOP")] == [1, 1, 1, 1]
    assert passed > 40


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_floats_that_are_no_numbers_are_left_to_the_machine(value):
    """What the fast path gives is finite."""
    assert not is_flat(pickle.dumps(FLAT | {"x": value}, 1))
    assert is_flat(pickle.dumps(FLAT | {"x": 1.7e308, "y": -5e-324, "z": -0.0}, 1))


@pytest.mark.parametrize("protocol", range(1, 6))
@pytest.mark.parametrize("length", [0, 1, 127, 128, 254, 255, 256, 257, 3_000, 20_000])
def test_texts_of_every_length_are_taken(protocol, length):
    """A long text, such as a traceback, does not cost the fast path, and what follows is still looked at."""
    record = FLAT | {"exc_text": "t" * length, "stack_info": "s" * length if length < 5_000 else "", "last": "end"}
    frame = pickle.dumps(record, protocol)
    assert load_flat(frame) == record
    assert not is_flat(pickle.dumps(record | {"last": ["list"]}, protocol))
    assert not is_flat(frame[:-2] + b"0u.")


def test_long_text_that_claims_more_than_there_is():
    """A long text's length is held against the frame."""
    frame = pickle.dumps(FLAT | {"exc_text": "t" * 1_000}, 1)
    for claimed in (999, 1_001, 1_003, 1_005, 1_006, 0xFFFF, 0xFFFFFF, 0xFFFFFFFF):
        assert not is_flat(frame.replace(struct.pack("<I", 1_000), struct.pack("<I", claimed)))


def test_large_frames_and_many_attributes_are_left_to_the_machine():
    """Beyond its own limits the fast path does not judge."""
    assert is_flat(pickle.dumps(FLAT | {"x": "x" * (MAX_BYTES - 400)}, 1))
    assert not is_flat(pickle.dumps(FLAT | {"x": "x" * MAX_BYTES}, 1))
    assert load_flat(pickle.dumps({f"k{n}": n for n in range(MAX_ITEMS)}, 1)) is not None
    assert load_flat(pickle.dumps({f"k{n}": n for n in range(MAX_ITEMS + 1)}, 1)) is None


def test_what_cannot_be_loaded_after_all_is_left_to_the_machine():
    """A reference to nothing and text that is no UTF-8 raise nothing."""
    assert load_flat(b"}q\x00(X\x01\x00\x00\x00aq\x01h\x07u.") is None
    assert load_flat(b"}q\x00(X\x01\x00\x00\x00\xffq\x01Nu.") is None


def test_python_2_text_is_kept_reversibly():
    """A Python 2 str is UTF-8 where it can be, else each octet that is none is a lone surrogate."""
    frame = b"}q\x01(U\x01aU\x02\xc3\xa9q\x02U\x01bU\x02v\xffq\x03u."
    assert load_flat(frame) == {"a": "é", "b": "v\udcff"}

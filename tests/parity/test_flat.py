"""A flat record read key by key comes out as the machine would have it, whatever came before it."""

import pickle
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.parity import sides
from tests.support.strategies import bounded

KEYS = [
    "name",
    "msg",
    "levelno",
    "created",
    "args",
    "exc_info",
    "lineno",
    "x",
    "y",
    "a_longer_key_of_an_extra",
    "\u00e9",
]


def _text(value, kind):
    """Return the opcode of a text: BINUNICODE, or SHORT_BINSTRING as Python 2 has it."""
    octets = value.encode()
    return b"X" + struct.pack("<I", len(octets)) + octets if kind == "X" else b"U" + bytes([len(octets)]) + octets


kinds = st.sampled_from("XU")
values = st.one_of(
    st.builds(_text, st.sampled_from(["", "plain", 'a "quote"', "caf\u00e9\n", "x" * 300]), st.just("X")),
    st.builds(_text, st.sampled_from(["", "plain", "caf\u00e9"]), st.just("U")),
    st.sampled_from(
        [b"N", b"\x88", b"\x89", b"K\x07", b"M\x07\x01", b"J\xff\xff\xff\xff", b"L12345678901L\n", b"I01\n"]
    ),
    st.sampled_from(
        [b"L123456789012345678901234567890L\n", b"\x8a\x02\x00\x01", b"]", b"}", b")", b"]K\x01a", b"C\x01x"]
    ),
    st.builds(lambda value: b"G" + struct.pack(">d", value), st.floats()),
    st.builds(lambda index: b"h" + bytes([index]), st.integers(0, 12)),
)
pairs = st.tuples(st.sampled_from(KEYS), kinds, st.booleans(), values, st.booleans())
endings = st.sampled_from([b"u.", b"u.", b"u.", b"u", b"", b"uu.", b"u(X\x01\0\0\0zNu.", b".", b"u.x"])
GOOD = [
    ("name", "X", True, _text("a", "X"), True),
    ("msg", "X", True, _text("said", "X"), True),
    ("created", "X", True, b"G" + struct.pack(">d", 1.5), False),
]


def frame(pairs, head=b"}q\x00(", ending=b"u."):
    """Return the pickle of a dict; each text is remembered under the next number, where the pair says so."""
    found, number = head, 0
    for key, kind, remembers_key, value, remembers_value in pairs:
        found += _text(key, kind)
        if remembers_key:
            number += 1
            found += b"q" + bytes([number])
        found += value
        if remembers_value:
            number += 1
            found += b"q" + bytes([number])
    return found + ending


heads = st.sampled_from(
    [b"}q\x00(", b"}(", b"\x80\x02}q\x00(", b"\x80\x02}(", b"}q\x05(", b"\x80\x06}(", b"](", b"}r\0\0\0\0("]
)


@pytest.fixture(scope="module")
def core():
    """Return a compiled core, which keeps what it has learnt from one record to the next."""
    return sides.core()


@bounded
@given(st.lists(pairs, max_size=6), st.permutations(GOOD), heads, endings)
def test_any_flat_dict(core, more, good, head, ending):
    """Keys in any order, twice or unknown, values of every kind, references to keys and to the dict itself."""
    for at in (0, 1, 3):
        sides.agree(core, frame([*good[:at], *more, *good[at:]], head, ending))


def test_a_key_that_comes_twice_is_python_s(core):
    """The later value counts, for a known key, an extra one, and one that is spelt by another opcode."""
    for again in (("msg", "X", False, _text("later", "X"), False), ("x", "X", False, b"K\x02", False)):
        first = [*GOOD, ("x", "X", False, b"K\x01", False)]
        for kind in "XU":
            twice = frame([*first, (again[0], kind, *again[2:])])
            assert sides.agree(core, frame(first))
            assert not sides.agree(core, twice)
            assert pickle.loads(twice)[again[0]] in ("later", 2)


@pytest.mark.parametrize("power", range(19))
def test_integers_of_every_number_of_digits(core, power):
    """They are written in parts of eight digits, so the borders of the parts count."""
    for size in (10**power - 1, 10**power, 10**power + 1, 7 * 10**power, 2**63 - 1):
        for value in (size, -size, -size - 1):
            body = pickle.dumps(value, 1).removesuffix(b".")
            assert sides.agree(core, frame([*GOOD, ("x", "X", False, body, False)])), value


def test_more_keys_than_are_remembered(core):
    """A stream of ever new keys changes no line, neither of its own records nor of others'."""
    for number in range(6_000):
        assert sides.agree(core, frame([*GOOD, (f"key{number}", "X", False, b"K\x01", False)]))
    assert sides.agree(core, frame(GOOD))


def test_long_dicts_are_read_to_their_end(core):
    """Beyond so many keys the machine goes on."""
    for count in (60, 61, 62, 63, 64, 65, 100, 250):
        extras = [(f"k{number}", "X", True, _text(f"v{number}", "X"), True) for number in range(count - 3)]
        # A number of the memo has one octet here.
        plain = [(key, kind, number < 100, value, False) for number, (key, kind, _, value, _) in enumerate(extras)]
        assert sides.agree(core, frame([*GOOD, *plain])), count


def test_every_prefix_of_a_flat_record(core):
    """Whatever is cut off, nothing is made up."""
    whole = frame([*GOOD, ("x", "U", True, b"h\x02", False), ("y", "X", True, b"L99L\n", False)])
    assert sides.agree(core, whole)
    for end in range(len(whole)):
        assert not sides.agree(core, whole[:end])


def test_a_key_that_comes_again_is_not_passed_over():
    """The machine reads on at that key. Without it, SETITEM would put a value into the dict before."""
    one = sides.core()
    head = frame(GOOD, ending=b"")
    for again in ("a", "name"):
        for key in ("a", "name", "z"):
            body = head + _text("v", "X") + b"}" + _text(again, "X") + b"(K\x01K\x02t" + _text(key, "X")
            for ending in (b"su.", b"s" + _text("w", "X") + b"Nu.", b"Nu.", b"K\x07u."):
                sides.agree(one, body + ending)
    assert not sides.agree(
        one, head + _text("v", "X") + b"}" + _text("a", "X") + b"(K\x01K\x02t" + _text("a", "X") + b"su."
    )


@pytest.mark.parametrize("protocol", [1, 4])
def test_members_of_extra_that_refer_to_it(protocol):
    """They are attributes of their own; within them, the dict is what Python says: a cycle."""
    one = sides.core()
    record = {"name": "a", "msg": "said", "created": 1.5}
    extra = {"b": 1}
    extra |= {"self": extra, "deep": [{"x": extra}], "state": (extra, 7)}
    shared = {"c": 1}
    for further in ({"extra": extra}, {"extra": extra, "y": extra}, {"x": [shared], "extra": shared, "y": shared}):
        for _ in range(3):
            sides.agree(one, pickle.dumps(record | further, protocol))
    assert sides.agree(one, pickle.dumps(record | {"extra": {"b": [shared], "c": shared}}, protocol))


def test_a_value_with_a_number_whose_key_has_none():
    """What refers to the number means the value, also once the key is known."""
    one = sides.core()
    head = frame(GOOD, ending=b"")
    body = head + _text("v", "X") + _text("the value", "X") + b"q\x06" + _text("w", "X") + b"h\x06u."
    for again in (body, body.replace(b"h\x06u.", b"]h\x06au.")):
        for _ in range(3):
            assert sides.agree(one, again)

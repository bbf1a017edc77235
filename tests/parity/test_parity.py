"""What the compiled core writes is byte for byte what the Python modules write."""

import functools
import json
import math
import pickle
import random
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.ingest import core as native
from prefork_logd.records import render
from tests.parity import endless, sides, strategies
from tests.parity.dearest import CHARACTERS
from tests.support import corpus
from tests.support.assemble import call, named, record, text
from tests.support.corpus import mutated
from tests.support.strategies import NAMES, bounded, plain, texts

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture(scope="module")
def core():
    """Return a compiled core with the outputs of `sides`."""
    return sides.core()


def test_every_genuine_record(core):
    """Records of real services come out the same, and nine in ten without Python's help."""
    done = [sides.agree(core, payload.data) for payload in corpus.records()]
    assert sum(done) > 0.9 * len(done)


@pytest.mark.parametrize("payload", corpus.hostile(), ids=lambda payload: payload.name)
def test_every_hostile_payload(core, payload):
    """What must be rejected is never rendered, and what may be accepted comes out the same."""
    assert not (sides.agree(core, payload.data) and payload.expect == "reject")


def test_every_record_of_a_sender(core):
    """A session's fields come out the same in each form of line, and cost no record its way through the core."""
    done = [sides.agree(core, payload.data, sender=sides.SENDER) for payload in corpus.records()]
    assert sum(done) > 0.9 * len(done)


@pytest.mark.parametrize("payload", corpus.hostile()[::7], ids=lambda payload: payload.name)
def test_every_hostile_payload_of_a_sender(core, payload):
    """Also of a record that is cut."""
    sides.agree(core, payload.data, sender=sides.SENDER)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "more",
    [
        {"prefork_logd.msg": "%s paid"},
        {"prefork_logd.msg": ""},
        {"prefork_logd.msg": None, "prefork_logd.exception": None},
        {"prefork_logd.exception": [{"type": "ValueError", "frames": [{"lineno": 1}, {"lineno": None}]}], "y": [1]},
        {"prefork_logd.exception": []},
        {"prefork_logd.truncated": ["extra.ids", "message"]},
        {"prefork_logd.truncated": [], "prefork_logd.exception": [{}], "y": [1]},
        {"prefork_logd.exception": [{"password": "x", "frames": [{"token": 1}]}]},
        {"region": "us", "y": [1]},
    ],
)
def test_what_our_handler_adds(core, more, protocol):
    """The template and the exceptions have fields, which the core writes; a record's own attribute counts."""
    frame = pickle.dumps({"name": "n", "msg": "m", "args": None, "created": 1.5, **more}, protocol)
    assert sides.agree(core, frame)
    assert sides.agree(core, frame, sender=sides.SENDER)


@pytest.mark.parametrize(
    "more",
    [
        {"prefork_logd.msg": 5},
        {"prefork_logd.msg": ["%s"]},
        {"prefork_logd.exception": "ValueError"},
        {"prefork_logd.exception": {"type": "ValueError"}},
        {"prefork_logd.exception": [{}, 1]},
        {"prefork_logd.truncated": [1]},
        {"prefork_logd.truncated": "extra.ids"},
    ],
)
def test_what_another_client_calls_so(core, more):
    """Values of another form are left to Python, which keeps them in `extra`."""
    frame = pickle.dumps({"name": "n", "msg": "m", "args": None, "created": 1.5, **more}, 1)
    assert not sides.agree(core, frame)
    assert json.loads(sides.by_python(frame)[0])["extra"] == more


@bounded
@given(strategies.attributes, st.sampled_from(PROTOCOLS))
def test_any_values(attributes, protocol):
    """Values of every known kind, nested, pickled by every protocol."""
    sides.agree(_shared_core(), pickle.dumps(attributes, protocol))


@bounded
@given(st.dictionaries(st.sampled_from(NAMES) | texts, plain, max_size=25), st.sampled_from(PROTOCOLS))
def test_any_attributes(attributes, protocol):
    """Attributes of LogRecord with values that fit them or not."""
    sides.agree(_shared_core(), pickle.dumps(attributes, protocol))


@bounded
@given(strategies.attributes)
def test_plain_records_need_no_python(attributes):
    """Of plain values, only what fits no field and what has no plain key is left to Python."""
    usual = {"name": "n", "msg": "m", "args": None, "created": 1.5, "levelno": 20, "kept": attributes["msg"]}
    assert sides.agree(_shared_core(), pickle.dumps(usual | {"more": [usual, (1, 2.5, None, True)]}, 1))


@functools.cache
def _shared_core():
    return sides.core()


@pytest.mark.parametrize("payload", corpus.records()[::60], ids=lambda payload: payload.name)
def test_every_prefix(core, payload):
    """A record cut at any byte is never rendered, nor is one with something behind it."""
    for end in range(len(payload.data)):
        assert core.lines(payload.data[:end], sides.PEER, sides.RECEIVED) is None
    for more in (b"\n", b".", payload.data):
        assert core.lines(payload.data + more, sides.PEER, sides.RECEIVED) is None


def test_mutated_payloads(core):
    """Damaged records are left to Python, or come out the same."""
    chance = random.Random(1_123)
    seeds = [payload.data for payload in corpus.frames() if 0 < len(payload.data) < 2_000]
    assert sum(sides.agree(core, mutated(chance, seeds)) for _ in range(3_000)) > 100


@bounded
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats(value):
    """Floats are the shortest that read back the same, in both spellings."""
    sides.core()
    assert native.speedups.float_text(value, True) == msgspec.json.encode(value)
    assert native.speedups.float_text(value, False) == repr(value).encode()


def test_many_floats():
    """Floats of every exponent, times among them, and the ends of the range."""
    sides.core()
    chance = random.Random(53)
    values = [struct.unpack("<d", struct.pack("<Q", chance.getrandbits(64)))[0] for _ in range(20_000)]
    values += [chance.uniform(0, 7e9) for _ in range(20_000)] + [2.0**n for n in range(-1074, 1024)]
    values += [5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, 9007199254740993.0, 0.0, -0.0]
    for value in values:
        if math.isfinite(value):
            assert native.speedups.float_text(value, True) == msgspec.json.encode(value)
            assert native.speedups.float_text(value, False) == repr(value).encode()


SHARED = b"]" + b"q\x05" + text("in") + b"a"
CASES = {
    "a list twice": record(b"h\x05", b"h\x05", before=SHARED + b"0"),
    "a list in itself": record(b"h\x05", before=b"]q\x05h\x05a0"),
    "a dict in a tuple in itself": record(b"h\x05", before=b"}q\x05" + text("k") + b"(h\x05h\x05ts0"),
    "an empty tuple twice": record(b"(" + b")" * 50 + b"l"),
    "equal keys": record(b"}(" + text("k") + b"K\x01" + text("k") + b"K\x02u"),
    "two spellings of a key": record(b"}(K\x01K\x01" + text("1") + b"K\x02u"),
    "python 2 text": record(b"U\x03\xc3\xa9x", b"U\x03\xff\xfe\x80", b"U\x03\xed\xa0\x80"),
    "python 2 key": record(b"}(U\x02\xc3\xa9K\x01" + text("é") + b"K\x02u"),
    "marks and pops": record(b"(K\x01K\x02100K\x03" + b"2" + b"0"),
    "a call's call": record(call(call(named("a", "b")), b"K\x01")),
    "a call without a class": record(call(text("no class"), b"K\x01")),
    "an enumeration's member": record(named("http", "HTTPStatus.OK")),
    "getattr": record(call(named("__builtin__", "getattr"), named("a", "B"), text("C"))),
    "new object": record(call(named("copy_reg", "__newobj__"), named("a", "B"), b"K\x01", b"K\x02")),
    "state of slots": record(call(named("a", "B")) + b"(N}" + text("x") + b"K\x01stb"),
    "empty state": record(call(named("a", "B")) + b"}b"),
    "a long list": record(b"](" + b"K\x01" * 5_000 + b"e"),
    "many keys": record(b"}(" + b"".join(text(f"k{n}") + b"N" for n in range(500)) + b"u"),
    "deep": record(b"]" * 199 + b"a" * 198),
    "too deep": record(b"]" * 201 + b"a" * 200),
    "an integer of a thousand bytes": record(b"\x8b\xe8\x03\x00\x00" + b"\x7f" * 1000),
    "padded integers": record(b"\x8a\x0a" + b"\x05" + bytes(9), b"\x8a\x0a" + b"\xfb" + b"\xff" * 9, b"\x8a\x00"),
    "numbers as text": record(b"I-7\n", b"L12345678901234567890L\n", b"I01\n", b"F2.5e3\n", b"L-5L\n", b"I007\n"),
    "quoted text": record(b"S'it\\'s \\x41\\n\\q'\n", b"V\\u20ac \xe9\n"),
    "a tab first": record().replace(b"\x01\x00\x00\x00m", b"\x03\x00\x00\x00\tm\n"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_no_pickler_writes(core, name):
    """Odd but allowed, or not allowed: never something else than Python writes."""
    sides.agree(core, CASES[name])


def test_escapes_of_every_character(core):
    """Every character of the basic plane, alone and within text, in JSON and in text."""
    for start in range(0, 0x10000, 256):
        message = "".join(map(chr, range(start, start + 256)))
        assert sides.agree(
            core, pickle.dumps({"msg": message, "created": 1.0, "x": message[::-1], "b": message[:9]}, 1)
        )


def test_octets_of_every_value(core):
    """Every octet, in bytes and in a Python 2 str."""
    octets = bytes(range(256))
    frame = record(b"B\x00\x01\x00\x00" + octets, b"T\x00\x01\x00\x00" + octets)
    assert sides.agree(core, frame)
    assert sides.agree(core, pickle.dumps({"msg": "m", "created": 1.0, "octets": octets}, 4))


def test_received_of_zero_is_pythons(core):
    """A clock that says 1970 is so rare that its spelling is not known twice."""
    frame = pickle.dumps({"msg": "m", "created": 1.0}, 1)
    assert core.lines(frame, sides.PEER, 0.0) is None


def test_lines_are_json(core):
    """What is compared with is JSON, so that two equal mistakes would show."""
    frame = pickle.dumps({"msg": 'a"\\\n\x7f\u2028', "created": 1.5, "y": {"k": [1, None]}}, 4)
    stored = json.loads(core.lines(frame, sides.PEER, sides.RECEIVED)[0])
    assert stored["message"] == 'a"\\\n\x7f\u2028'
    assert stored["extra"] == {"y": {"k": [1, None]}}
    assert stored["time"] == "1970-01-01T00:00:01.500000Z"


@pytest.mark.parametrize("template", ["%(lineno)5.1f", "%(message).3s", "%(extra)s", "%(levelno)x"])
def test_other_templates_are_pythons(template):
    """A directive that is not known here makes every record Python's, rather than a little wrong."""
    one = sides.core((OutputSettings(path="a", format="text", template=template),))
    assert not one.capable
    assert one.lines(pickle.dumps({"msg": "m", "created": 1.0}, 1), sides.PEER, sides.RECEIVED) is None


def test_random_pickles():
    """A short piece of the run that `python -m tests.parity.endless` goes on with."""
    tried, rendered, rejected = endless.run(11_28, seconds=60, most=1_000)
    assert tried == 1_000
    assert rendered > 200
    assert rejected > 200


@pytest.mark.parametrize("character", [*CHARACTERS, *map(chr, range(0x2000, 0x2070))])
def test_escapes_of_lines_that_python_makes(character):
    """What stands in a line as an escape does so whichever core makes it, whatever stands beside it."""
    if native.speedups is None:
        pytest.skip(f"no compiled core to compare: {native.MISSING}")
    for before in ("", "a", "seven b", "x" * 20, "é", "\U0001f600"):
        for behind in ("", "b", "y" * 20, "\u20ac", "\t"):
            one = before + character + behind
            assert native.speedups.escape_inside(one) == render.escape_inside_in_python(one)
            line = one.replace(character, "\x7f").encode() if "\ud800" <= character <= "\udfff" else one.encode()
            assert native.speedups.escape_json(line) == render.escape_json_in_python(line)


def test_a_line_with_lone_surrogates_is_json():
    """Lone surrogates, DEL and backslashes of the same text are each their own escapes, in keys and values."""
    texts = [
        f"{one}{two}"
        for one in ("\udcff", "\x7f", "\\", "\\udcff", "\x7f007f", "\x7f005c", '"', "\n")
        for two in CHARACTERS
    ]
    value = {"a": texts, **{f"{one}\ud800": one for one in texts}, "raw": msgspec.Raw(b'{"\\\\u0041\\"":"\\\\\\\\"}')}
    line = render.render_values(value)
    assert line.endswith(b'"raw":{"\\\\u0041\\"":"\\\\\\\\"}}\n')
    assert json.loads(line) == value | {"raw": {'\\u0041"': "\\\\"}}
    assert not set(line.decode()) & set("\x7f\x85\u2028\ufeff")

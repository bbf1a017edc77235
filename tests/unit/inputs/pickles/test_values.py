import dataclasses
import enum
import inspect
import pickle
import sys
from collections import namedtuple

import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.ingest import core
from prefork_logd.inputs.pickles.decode import decode
from tests.support import corpus, lines
from tests.support.assemble import call, named, record, text
from tests.support.contained import contained

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


class Order:
    def __init__(self, number):
        self.number = number


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self):
        self.a, self.b = 1, "two"


class Tagged(Slotted):
    def __init__(self):
        super().__init__()
        self.tag = "x"


class Keyword:
    def __new__(cls, *, number):
        return super().__new__(cls)

    def __getnewargs_ex__(self):
        return (), {"number": 7}


class LazyText(str):
    __slots__ = ()


class Stock(list):
    pass


class Attributes(dict):
    pass


class Color(enum.Enum):
    RED = 1


# Early 3.11 pickles a member by its name, other versions by its value.
BY_NAME = b"RED" in pickle.dumps(Color.RED, 0)


class Outer:
    class Inner:
        pass


class ShopError(Exception):
    pass


Point = namedtuple("Point", "x y")  # noqa: PYI024 - what users have


@dataclasses.dataclass
class User:
    name: str
    friends: list


HERE = __name__


def _value(value, protocol):
    return decode(pickle.dumps({"x": value, "y": []}, protocol))["x"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Order(17), {"__class__": f"{HERE}.Order", "state": {"number": 17}}),
        (User("ann", []), {"__class__": f"{HERE}.User", "state": {"name": "ann", "friends": []}}),
        (Point(1, [2]), {"__class__": f"{HERE}.Point", "args": [1, [2]]}),
        (LazyText("lazy"), "lazy"),
        (Color.RED, {"__name__": f"{HERE}.Color.RED"} if BY_NAME else {"__class__": f"{HERE}.Color", "args": [1]}),
        (Outer.Inner(), {"__class__": f"{HERE}.Outer.Inner"}),
        (Order, {"__name__": f"{HERE}.Order"}),
        (Outer.Inner, {"__name__": f"{HERE}.Outer.Inner"}),
        (len, {"__name__": "len"}),
        (ShopError("no stock", 3), {"__class__": f"{HERE}.ShopError", "args": ["no stock", 3]}),
    ],
)
def test_unknown_objects_are_kept_as_data(value, expected, protocol):
    """An object of a class that is unknown here is its class, arguments and state; what is empty is left out."""
    assert _value(value, protocol) == expected


@pytest.mark.parametrize("protocol", range(2, 6))
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Stock(["a"]), ["a"]),
        (Attributes(a=1), {"a": 1}),
        (Slotted(), {"__class__": f"{HERE}.Slotted", "state": {"a": 1, "b": "two"}}),
        (Tagged(), {"__class__": f"{HERE}.Tagged", "state": {"tag": "x", "a": 1, "b": "two"}}),
    ],
)
def test_items_and_slots(value, expected, protocol):
    """A subclass of list or dict is what it holds; slots and attributes are one state."""
    assert _value(value, protocol) == expected


def test_keyword_arguments():
    """Protocol 4 sends them as such; below it, a partial function is called."""
    assert _value(Keyword(number=7), 4) == {"__class__": f"{HERE}.Keyword", "kwargs": {"number": 7}}
    older = _value(Keyword(number=7), 2)
    assert older["__class__"] == "functools.partial()"
    assert "number" in str(older["args"])


def test_result_of_a_call_that_is_called():
    """The call comes first among the arguments."""
    frame = record(call(call(named("m", "f"), b"K\x01"), b"K\x02"))
    assert decode(frame)["x0"] == {"__class__": "m.f()", "args": [{"__class__": "m.f", "args": [1]}, 2]}


def test_list_items_and_pairs_on_one_object():
    """Nobody sends both; nothing is lost if somebody does."""
    frame = record(named("m", "f") + b")R(K\x01e(K\x02K\x03u")
    assert decode(frame)["x0"] == {"__class__": "m.f", "items": [1, {"2": 3}]}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (1, "1"),
        (-1.5, "-1.5"),
        (True, "True"),
        (None, "None"),
        (float("nan"), "nan"),
        (b"\x00a", "\\x00a"),
        ((1, "a"), "(1, 'a')"),
        ((), "()"),
        (Color.RED, f"{HERE}.Color.RED" if BY_NAME else f"{HERE}.Color(1)"),
        (Order, f"{HERE}.Order"),
        (frozenset([2]), "[2]"),
        ("", ""),
        ("a\nb", "a\nb"),
    ],
    ids=repr,
)
def test_keys_become_text(key, expected, protocol):
    """Whatever a dict is keyed by, its text is the key."""
    assert decode(pickle.dumps({"x": {key: 1}}, protocol))["x"] == {expected: 1}


def test_object_with_state_as_a_key():
    """Its data is written out."""
    frame = record(b"}" + named("m", "f") + b")R}K\x01K\x02sbNs")
    assert decode(frame)["x0"] == {"{'__class__': 'm.f', 'state': {'1': 2}}": None}


def test_keys_of_one_text_are_told_apart():
    """Two keys that differ and look alike are both kept; of equal ones the last counts, in the place of the first."""
    assert decode(pickle.dumps({"x": {1: "a", "1": "b", "2": "c", 2: "d"}}))["x"] == {
        "1": "a", "1 (str)": "b", "2": "c", "2 (int)": "d",
    }  # fmt: skip
    frame = record(b"}(" + text("a") + b"K\x01" + text("b") + b"K\x02" + text("a") + b"K\x03u")
    assert list(decode(frame)["x0"].items()) == [("a", 3), ("b", 2)]
    frame = record(b"}(K\x07K\x01K\x07K\x02u")
    assert decode(frame)["x0"] == {"7": 2}


def test_python_2_text():
    """A Python 2 str is text: UTF-8, else reversible; as a key it is the same as unicode."""
    frame = record(b"U\x03a\xc3\xa9", b"U\x01\xff", b"}(U\x01kK\x01X\x01\0\0\0kK\x02u")
    assert [decode(frame)[f"x{n}"] for n in range(3)] == ["aé", "\udcff", {"k": 2}]


def test_floats_that_are_no_numbers():
    """They survive as text, which JSON can hold."""
    values = [float("nan"), float("inf"), float("-inf"), 1.5]
    assert decode(pickle.dumps({"x": values}))["x"] == ["nan", "inf", "-inf", 1.5]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        (b"plain text", "plain text"),
        (b"\x00\xffabc", r"\x00\xffabc"),
        (b"a\\b\n\r\t'\"\x7f", r"a\\b\n\r\t'" + '"' + r"\x7f"),
        ("é".encode(), r"\xc3\xa9"),
        (bytes(range(256)), None),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_octets_are_text_with_backslash_escapes(data, expected, protocol, kind):
    """Binary data is written like the inside of a bytes literal, from which it can be had back exactly."""
    text = _value(kind(data), protocol)
    assert expected is None or text == expected
    assert corpus.octets(text) == data


def test_shared_values_are_written_out_each_time():
    """A list in three places is three lists."""
    shared = ["s"]
    assert _value({"a": shared, "b": [shared, shared]}, 1) == {"a": ["s"], "b": [["s"], ["s"]]}


def test_cycles_end_where_they_begin_again():
    """Through lists, dicts, tuples and objects."""
    loop = []
    loop.append(loop)
    assert _value(loop, 1) == ["<cycle>"]
    order = Order(None)
    order.number = {"of": (order, 1)}
    assert _value(order, 4)["state"] == {"number": {"of": ["<cycle>", 1]}}


def test_depth():
    """A hundred and ninety lists are kept, three hundred are cut, and neither asks for a deeper stack."""
    nested = "core"
    for _ in range(190):
        nested = [nested]
    assert _value(nested, 1) == nested
    lines.check_lines({"msg": "m", "x": nested})
    for _ in range(110):
        nested = [nested]
    assert "<truncated>" in str(_value(nested, 1))


def test_deep_value_where_the_stack_is_nearly_full():
    """The caller's own depth may leave no room for the value's; that is a rejection too."""
    nested = "core"
    for _ in range(190):
        nested = [nested]
    frame = pickle.dumps({"x": nested}, 1)

    def deeper(levels):
        return deeper(levels - 1) if levels else decode(frame)

    base = len(inspect.stack())
    with pytest.raises(RecordRejected, match="nested"):
        deeper(sys.getrecursionlimit() - base - 100)


SHARED_KEYS = b"}(" + text("k") + b"q\x05N" + b"h\x05N" * 9_000 + b"uq\x060"
SHARED_TEXT = text("\\'\x00\U0010ffff" * 3_000) + b"q\x050"
AMPLIFIERS = {
    "one dict of duplicates in many places": record(b"(" + b"h\x06" * 15_000 + b"l", before=SHARED_KEYS),
    "one text encoded many times": record(
        b"(" + call(named("_codecs", "encode"), b"h\x05", text("latin1")) + b"l",
        b"(" + (b"h\x07(h\x05h\x08tR" * 4_000) + b"l",
        before=text("é" * 12_000) + b"q\x050" + named("_codecs", "encode") + b"q\x070" + text("latin1") + b"q\x080",
    ),
    "one tuple in many calls by way of a helper": record(
        b"(" + b"h\x07h\x06R" * 10_000 + b"l",
        before=named("copyreg", "__newobj__") + b"q\x070(" + named("m", "n") + b"N" * 19_000 + b"tq\x060",
    ),
    "one list of pairs, wrong at its end": record(
        b"(" + b"h\x07h\x06\x85R" * 7_000 + b"l",
        before=named("collections", "OrderedDict") + b"q\x070NN\x86q\x080]q\x06(" + b"h\x08" * 12_000 + b"Ne0",
    ),
    "text quoted again at each level": record(
        (named("builtins", "ValueError") + b"(](") * 90 + b"h\x05" + b"etR" * 90, before=SHARED_TEXT
    ),
    "keys that are quoted again at each level": record(
        (b"}(" + named("m", "n") + b")R}(K\x01") * 60 + b"h\x05" + b"ubNu" * 60, before=SHARED_TEXT
    ),
    "paths of one long part": record(
        b"(" + (b"h\x07(" + b"h\x05" * 3 + b"tR") * 3_000 + b"l",
        before=named("pathlib", "PurePosixPath") + b"q\x070" + text("p" * 5_000) + b"q\x050",
    ),
    "a state of slots in many places": record(
        b"(" + b"h\x07)R(Nh\x06tb" * 4_000 + b"l", before=SHARED_KEYS + named("m", "n") + b"q\x070"
    ),
    "addresses": record(
        b"(" + b"h\x06" * 30_000 + b"l",
        before=call(named("ipaddress", "IPv6Address"), b"\x8a\x10" + b"\x7f" * 16) + b"q\x060",
    ),
    "times": record(
        b"(" + b"h\x06" * 30_000 + b"l",
        before=call(named("datetime", "datetime"), b"C\x0a\x07\xea\x0b\x17\x03\x18\x05\x01\xe2\x40") + b"q\x060",
    ),
    "integers of full size": record(
        b"(" + b"h\x06" * 30_000 + b"l", before=b"\x8b\xa4\x06\0\0" + b"\x7f" * 1_700 + b"q\x060"
    ),
    "classes with long names": record(b"(" + (b"h\x05h\x05\x93" * 13_000) + b"l", before=text("n" * 250) + b"q\x050"),
    "calls of calls": record((named("m", "f") + b")R") + b")R" * 15_000),
    "far memo indexes": record(before=b"".join(b"Nr%c%c%c\x00" % (n % 256, n // 256, 15) for n in range(9_000))),
}  # fmt: skip


def _kept(frame):
    try:
        attributes = decode(frame)
    except RecordRejected as rejected:
        return rejected.reason
    lines.check_lines(attributes)
    return "kept"


@pytest.mark.slow
@pytest.mark.parametrize("frame", AMPLIFIERS.values(), ids=AMPLIFIERS)
def test_a_small_frame_cannot_ask_for_much_work(frame):
    """What a few bytes refer to again and again is paid for each time, whichever way the reference goes."""
    assert len(frame) <= 70_000
    _kept(corpus.records()[0].data)
    answer = contained(_kept, frame)
    assert answer["result"] in {"kept", "budget", "malformed"}
    # Without the compiled core, passing over what is left out takes microseconds an opcode.
    assert answer["cpu_s"] <= corpus.CPU_LIMIT_S * (1 if core.NATIVE else 4)
    assert answer["growth_mib"] <= corpus.MEMORY_LIMIT_MIB
    assert answer["events"] == []

import collections
import fractions
import http
import ipaddress
import pathlib
import pickle
import signal
import uuid
from decimal import Decimal

import pytest

from prefork_logd.inputs.pickles.decode import decode
from tests.support.assemble import call, named, record, text

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NUMBER = 0x12345678123456781234567812345678


def _noted():
    error = ValueError("noted")
    error.__notes__ = ["first note", "second"]
    return error


def _odd():
    error = ValueError("odd")
    error.code = 7
    return error


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("12.50"), "12.50"),
        (Decimal("-1E+999999999"), "-1E+999999999"),
        (Decimal("sNaN"), "sNaN"),
        (Decimal("-Infinity"), "-Infinity"),
        (fractions.Fraction(1, 3), "1/3"),
        (fractions.Fraction(-4), "-4"),
        (1 + 2j, "(1+2j)"),
        (range(3), "range(0, 3)"),
        (range(5, 0, -2), "range(5, 0, -2)"),
        (uuid.UUID(int=NUMBER), "12345678-1234-5678-1234-567812345678"),
        ({"a"}, ["a"]),
        (set(), []),
        (frozenset([1]), [1]),
        (collections.deque([1, [2]], maxlen=5), [1, [2]]),
        (collections.OrderedDict([("b", 1), ("a", 2)]), {"b": 1, "a": 2}),
        (collections.defaultdict(int, {"a": 1}), {"a": 1}),
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (pathlib.PurePosixPath("/srv/shop/a b"), "/srv/shop/a b"),
        (pathlib.PurePosixPath("relative/x"), "relative/x"),
        (pathlib.PurePosixPath(), "."),
        (pathlib.PureWindowsPath("c:/logs/x"), "c:\\logs\\x"),
        (ipaddress.ip_address("192.0.2.1"), "192.0.2.1"),
        (ipaddress.ip_address("2001:db8::1"), "2001:db8::1"),
        (ipaddress.ip_network("192.0.2.0/24"), "192.0.2.0/24"),
        (ipaddress.ip_interface("2001:db8::1/64"), "2001:db8::1/64"),
        (ValueError("bad value", 7), "ValueError('bad value', 7)"),
        (KeyError(), "KeyError()"),
        (RuntimeError(KeyError("x"), [b"\xff"], {"k": None}), "RuntimeError(KeyError('x'), ['\\\\xff'], {'k': None})"),
        (FileNotFoundError(2, "No such file"), "No such file"),
        (_noted(), "ValueError('noted')\nfirst note\nsecond"),
    ],
    ids=repr,
)
def test_standard_types_have_their_usual_form(value, expected, protocol):
    """Every protocol gives the same text or JSON."""
    got = decode(pickle.dumps({"x": value}, protocol))["x"]
    if isinstance(value, OSError):  # below protocol 3 the pickle itself says OSError
        assert expected in got
    else:
        assert got == expected
        assert type(got) is type(expected)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_enumerations_of_the_standard_library_have_name_and_value(protocol):
    """A status is found by its number and read by its name."""
    got = decode(pickle.dumps({"status": http.HTTPStatus.NOT_FOUND}, protocol))["status"]
    assert got == {"__class__": "http.HTTPStatus", "name": "NOT_FOUND", "value": 404}
    got = decode(pickle.dumps({"signal": signal.SIGTERM}, protocol))["signal"]
    assert "SIGTERM" in str(got)
    by_name = decode(
        record(b"c__builtin__\ngetattr\n" + named("http", "HTTPStatus") + b"X\x09\x00\x00\x00NOT_FOUND\x86R")
    )
    assert by_name["x0"] == {"__class__": "http.HTTPStatus", "name": "NOT_FOUND", "value": 404}
    assert decode(record(call(named("http", "HTTPStatus"), b"K\x01")))["x0"]["args"] == [1]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_exception_with_attributes_is_an_object(protocol):
    """What an exception was given besides its arguments is kept."""
    got = decode(pickle.dumps({"x": _odd()}, protocol))["x"]
    assert got == {"__class__": "ValueError", "args": ["odd"], "state": {"code": 7}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (call(named("__builtin__", "set"), b"(K\x01l"), [1]),
        (call(named("collections", "deque"), b"(K\x01l"), [1]),
        (call(named("collections", "OrderedDict"), b"]((K\x01K\x02l(K\x03K\x04te"), {"1": 2, "3": 4}),
        (call(named("__builtin__", "bytearray"), text("\x00ÿ"), b"U\x07latin-1"), r"\x00\xff"),
        (call(named("__builtin__", "bytes")), ""),
        (call(named("decimal", "Decimal"), b"U\x041.50"), "1.50"),
        (call(named("fractions", "Fraction"), b"U\x031/3"), "1/3"),
        (call(named("exceptions", "IOError"), b"K\x02", b"U\x02no"), "IOError(2, 'no')"),
        (call(named("pathlib._local", "PosixPath"), text("/srv"), text("x")), "/srv/x"),
        (call(named("pathlib._local", "WindowsPath"), text("c:/logs/x"), text("y")), "c:\\logs\\x\\y"),
        (call(named("pathlib", "PosixPath"), text("/srv"), text("/etc")), "/etc"),
        (call(named("__builtin__", "xrange"), b"K\x00", b"K\x03", b"K\x01"), "range(0, 3)"),
    ],
)  # fmt: skip
def test_spellings_of_other_pythons(value, expected):
    """Python 2.7 and 3.13 name and call some types in their own way."""
    assert decode(record(value))["x0"] == expected


@pytest.mark.parametrize(
    ("module", "name", "args"),
    [
        ("__builtin__", "bytearray", [b"J\x00\x28\x6b\x7e"]),
        ("__builtin__", "bytes", [b"J\x00\x28\x6b\x7e"]),
        ("__builtin__", "bytes", [text("a"), text("idna")]),
        ("_codecs", "encode", [text("a"), text("zlib")]),
        ("_codecs", "encode", [text("€"), text("latin1")]),
        ("_codecs", "encode", [b"K\x01", text("latin1")]),
        ("_codecs", "encode", [text("a")]),
        ("decimal", "Decimal", [text("1" * 201)]),
        ("decimal", "Decimal", [text("__import__")]),
        ("decimal", "Decimal", [b"K\x01"]),
        ("decimal", "Decimal", []),
        ("fractions", "Fraction", [text("1e999999")]),
        ("fractions", "Fraction", [b"N"]),
        ("builtins", "complex", [text("1")]),
        ("builtins", "range", [b"K\x01"]),
        ("builtins", "range", [b"N", b"N", b"N"]),
        ("builtins", "set", [text("abc")]),
        ("collections", "OrderedDict", [b"(K\x01l"]),
        ("collections", "OrderedDict", [b"((K\x01ll"]),
        ("collections", "OrderedDict", [b"N"]),
        ("collections", "Counter", [text("aab")]),
        ("pathlib", "PosixPath", [b"N"]),
        ("pathlib", "PosixPath", [text("a" * 20_000)]),
        ("pathlib", "PosixPath", [text("a")] * 200),
        ("ipaddress", "IPv4Address", [b"J\xff\xff\xff\xff"]),
        ("ipaddress", "IPv4Address", [text("1" * 200)]),
        ("ipaddress", "IPv4Network", [b"K\x01"]),
        ("http", "HTTPStatus", [text("404")]),
        ("http", "HTTPStatus", [b"]"]),
        ("uuid", "UUID", [text("zzz")]),
    ],
)
def test_arguments_that_do_not_fit_are_data(module, name, args):
    """A known type with arguments that it never has is kept as any other object is; nothing is computed."""
    got = decode(record(call(named(module, name), *args)))["x0"]
    assert got["__class__"].endswith(name)
    assert len(got.get("args", [])) == len(args)


@pytest.mark.parametrize("name", ["Decimal.os.system", "decimal", "Decimal ", "decimal.Decimal", "", "__class__"])
def test_only_exact_names_are_known(name):
    """A name near a known one has no meaning."""
    got = decode(record(call(named("decimal", name), text("1"))))["x0"]
    assert got == {"__class__": f"decimal.{name}", "args": ["1"]}


@pytest.mark.parametrize("attached", [b"(K\x01e", b"(K\x01K\x02u", b"Nb"], ids=["items", "pairs", "state"])
@pytest.mark.parametrize(
    "known",
    [
        call(named("decimal", "Decimal"), text("1")),
        call(named("fractions", "Fraction"), text("1/2")),
        call(named("builtins", "complex"), b"G" + bytes(8), b"G" + bytes(8)),
        call(named("builtins", "range"), b"K\x01", b"K\x02", b"K\x01"),
        call(named("builtins", "bytes"), b"C\x01a"),
        call(named("_codecs", "encode"), text("a"), text("latin1")),
        call(named("pathlib", "PosixPath"), text("a")),
        call(named("ipaddress", "IPv4Address"), b"K\x01"),
        call(named("http", "HTTPStatus"), b"K\xc8"),
    ],
)  # fmt: skip
def test_what_is_attached_is_not_lost(known, attached):
    """State or items on a type that has none of them make it an object, so that they are kept."""
    got = decode(record(known + attached))["x0"]
    assert isinstance(got, dict)
    assert "args" in got
    assert ("items" in got) == (attached != b"Nb")


def test_containers_and_exceptions_with_strange_attachments_are_data():
    """The same for types that may have some attachments and not others."""
    for value in (
        call(named("builtins", "set"), b"]") + b"K\x01b",
        call(named("builtins", "set"), b"]") + b"(K\x01K\x02u",
        call(named("collections", "OrderedDict")) + b"(K\x01e",
        call(named("collections", "OrderedDict")) + b"K\x01b",
        call(named("builtins", "KeyError")) + b"(K\x01e",
        call(named("uuid", "UUID")),
        call(named("uuid", "UUID")) + b"}(" + text("int") + b"J\xff\xff\xff\xffub",
        call(named("uuid", "UUID")) + b"}(" + b"".join(b"K%cN" % n for n in range(9)) + b"ub",
        call(named("uuid", "UUID")) + b"Nb",
    ):
        got = decode(record(value))["x0"]
        assert isinstance(got, dict)
        assert "__class__" in got

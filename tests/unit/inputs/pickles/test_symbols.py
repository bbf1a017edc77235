import pytest

from prefork_logd.inputs.pickles.symbols import (
    Dict,
    Object,
    OctetText,
    Set,
    Symbol,
    Tuple,
    is_call,
    is_hashable,
    text_of,
)


@pytest.mark.parametrize(
    ("module", "name", "path"),
    [
        ("shop.models", "Order", "shop.models.Order"),
        ("__builtin__", "set", "set"),
        ("__builtin__", "xrange", "range"),
        ("__builtin__", "long", "int"),
        ("__builtin__", "unicode", "str"),
        ("exceptions", "ValueError", "ValueError"),
        ("copy_reg", "_reconstructor", "copyreg._reconstructor"),
        ("pathlib._local", "PosixPath", "pathlib.PosixPath"),
        ("xrange", "xrange", "xrange.xrange"),
    ],
)
def test_symbol_has_todays_spelling(module, name, path):
    """Names that Python 2 or 3.13 moved are the ones that Python has now."""
    assert Symbol(module, name).path == path


def test_hashable_is_what_python_says():
    """A tuple is a key if all of it is; lists, dicts, sets and bytearrays are not."""
    assert all(map(is_hashable, (None, 1, "a", b"a", Tuple([1, Tuple([])]), Set([], frozen=True), Symbol("m", "n"))))
    mutable = ([], Dict(), bytearray(), Set([], frozen=False))
    assert not any(map(is_hashable, mutable))
    assert not any(is_hashable(Tuple([1, Tuple([value])])) for value in mutable)


def test_octet_text_is_utf_8_or_reversible():
    """Octets that are no UTF-8 come back."""
    assert OctetText(b"caf\xc3\xa9").text() == "café"
    assert OctetText(b"caf\xe9").text().encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_text_of_reads_short_texts_only():
    """A text longer than asked for is none, and is not decoded."""
    assert text_of("abc", 3) == text_of(OctetText(b"abc"), 3) == "abc"
    assert text_of("abcd", 3) is text_of(OctetText(b"abcd"), 3) is text_of(b"abc", 3) is text_of(None, 3) is None


def test_is_call_is_exact():
    """A call with anything attached, or of a name that is only like it, is not the call that was meant."""
    plain = Object(Symbol("m", "n"), [])
    assert is_call(plain, "m", "n")
    assert not is_call(plain, "m", "o")
    assert not is_call(Symbol("m", "n"), "m", "n")
    assert not is_call(Object(plain, []), "m", "n")
    plain.items.append(1)
    assert not is_call(plain, "m", "n")

import json
import logging
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.records.record import Record, make_record
from prefork_logd.records.render import (
    MAX_FIRST_BYTES,
    UNSAFE,
    TextTemplate,
    asctime,
    encode_marked_in_python,
    escape_json_in_python,
    render_json,
    render_rejected,
    unescape,
)
from tests.support import lines, strategies

CREATED = 1_795_404_245.125
DANGEROUS = [
    *range(0x20), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xFEFF,
    0xD800, 0xDBFF, 0xDC00, 0xDFFF,
]  # fmt: skip
HARMLESS = [0x20, 0x7E, 0xA0, 0xE9, 0x61B, 0x61D, 0x200D, 0x2010, 0x2027, 0x202F, 0x2065, 0x206A, 0xFEFE, 0x1F600]


def _record(**fields):
    return Record(created=CREATED, time="2026-11-23T03:24:05.125000Z", peer="p", received=1.5, **fields)


def _json(**fields):
    return render_json(_record(**fields)).decode()


def test_line_is_spelled_out():
    """One object, fields in their order, no spaces."""
    assert _json(name="n", levelno=20, message="m", lineno=0, extra={"k": [1, None, "é"]}) == (
        '{"created":1795404245.125,"time":"2026-11-23T03:24:05.125000Z","name":"n","levelno":20,"message":"m",'
        '"lineno":0,"extra":{"k":[1,null,"é"]},"peer":"p","received":1.5}\n'
    )


def test_empty_fields_are_left_out_and_empty_data_is_not():
    """A field that is null or empty says nothing; what a client put into extra is its business."""
    stored = json.loads(_json(name="", message="", extra={"a": "", "b": None, "c": {}}))
    assert list(stored) == ["created", "time", "extra", "peer", "received"]
    assert stored["extra"] == {"a": "", "b": None, "c": {}}
    assert "extra" not in json.loads(_json(extra={}))
    assert "name" not in json.loads(_json(name="", message="\udcff"))
    assert json.loads(_json(message='":""', extra={'":""': '":""'}))["message"] == '":""'


@pytest.mark.parametrize("code", DANGEROUS, ids=hex)
def test_dangerous_characters_are_escaped_in_json(code):
    """Each as the escape that JSON has for it, wherever it stands."""
    character = chr(code)
    line = _json(name=f"a{character}b", extra={character: [f"{character}{character}"]})
    assert character not in line[:-1]
    stored = json.loads(line)
    assert stored["name"] == f"a{character}b"
    assert list(stored["extra"].items()) == [(character, [character * 2])] or 0xD800 <= code < 0xE000
    if code >= 0x7F:
        assert f'"a\\u{code:04x}b"' in line


@pytest.mark.parametrize("code", [code for code in DANGEROUS if 0x7F <= code < 0xD800 or code > 0xDFFF], ids=hex)
def test_each_dangerous_character_is_escaped_without_the_compiled_core(code):
    """Also if the line has no other one."""
    line = f'{{"message":"a{chr(code)}b"}}'
    assert escape_json_in_python(line.encode()) == f'{{"message":"a\\u{code:04x}b"}}'.encode()


@pytest.mark.parametrize("code", HARMLESS, ids=hex)
def test_other_characters_are_utf_8(code):
    """What is next to a dangerous character, and everything else, is itself."""
    assert f'"a{chr(code)}b"' in _json(name=f"a{chr(code)}b")


def test_numbers():
    """Integers of any size, floats shortest, as JSON has them."""
    numbers = [0, -1, 1 << 64, -(1 << 70), 10**4_000, 1e16, 1e-7, 0.1, 5e-324, -0.0, 1.7976931348623157e308]
    line = _json(extra={"n": numbers})
    assert json.loads(line)["extra"]["n"] == numbers


def test_escape_mark_is_not_mistaken():
    """A DEL before hexadecimal digits, which is how surrogates travel, comes back as it was sent."""
    text = "\x7fdcff \udcff \x7f\x7f \\udcff \ud800"
    assert json.loads(_json(message=text, extra={text: text}))["message"] == text
    without = text.replace("\udcff", "").replace("\ud800", "")
    assert json.loads(_json(message=without))["message"] == without


@pytest.mark.slow
@strategies.bounded
@given(strategies.attributes)
def test_every_record_is_one_sound_line(attributes):
    """Whatever was decoded, the JSON line and the text lines hold what they must."""
    lines.check_lines(attributes)


@pytest.mark.slow
@strategies.bounded
@given(strategies.attributes)
def test_spelling_does_not_depend_on_the_way(attributes):
    """A record without surrogates reads the same when it goes through the encoder for those that have some."""
    record = make_record(attributes, "p", 1.5)
    line = render_json(record)
    fields = {name: getattr(record, name) for name in record.__struct_fields__}
    fields = {name: value for name, value in fields.items() if value is not None and value not in ("", {}, [])}
    assert encode_marked_in_python(fields) == line
    if re.search(rb"\\ud[89a-f]", line) is None:
        assert msgspec.json.decode(line) == json.loads(line)


def test_rejected_frame():
    """Who, when, why, how large, and the first bytes."""
    line = render_rejected("192.0.2.7:1", CREATED, "malformed", "x\u2028\udcff", b"\x80\\a\xff" + b"z" * 999, 70_000)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert b"\xe2\x80\xa8" not in line
    stored = json.loads(line)
    assert list(stored) == ["time", "received", "peer", "reason", "detail", "size", "first_bytes"]
    assert stored["time"] == "2026-11-23T03:24:05.125000Z"
    assert stored["detail"] == "x\u2028\udcff"
    assert stored["size"] == 70_000
    assert stored["first_bytes"] == r"\x80\\a\xff" + "z" * (MAX_FIRST_BYTES - 4)


# Text


def _text(template, **fields):
    return TextTemplate(template).render(_record(**fields)).decode()


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("%(name)s", "shop"),
        ("%(levelname)-8s|%(levelno)5d|%(lineno)#x|%(message).3s", "INFO    |   20|0x2a|pai"),
        ("100%% %(name)s%%", "100% shop%"),
        ("50% of %(name)s", "50% of shop"),
        ("%(user)s %(user)r %(nested)s %(yes)s %(nothing)s", "ann 'ann' {\"a\": [1]} True None"),
        ("%(absent)s|%(absent)5d|%(taskName)-3s|%(relativeCreated)d", "-|    -|-  |-"),
        ("%(peer)s %(received).2f %(time)s", "p 1.50 2026-11-23T03:24:05.125000Z"),
        ("%(msecs)03d", "125"),
        ("%(name)d %(name)5.1f %(levelno)c %(big)c %(big)f", "shop  shop \x14 {big} {big}"),
        ("%(extra)s", '{"user": "ann", "nested": {"a": [1]}, "yes": true, "nothing": null, "big": {big}}'),
        ("%()s %(name) %(name)q", "%()s %(name) %(name)q"),
        ("", ""),
    ],
)
def test_templates(template, expected):
    """Logging's directives, with text where a value does not fit and "-" where there is none."""
    big = 10**400
    record = _record(name="shop", levelname="INFO", levelno=20, lineno=42, message="paid")
    record.extra = {"user": "ann", "nested": {"a": [1]}, "yes": True, "nothing": None, "big": big}
    rendered = TextTemplate(template).render(record).decode()
    assert unescape(rendered[:-1]) == expected.replace("{big}", str(big))


@pytest.mark.parametrize(
    "fmt", ["%(asctime)s %(levelname)s %(name)s %(message)s", "%(message)s", "%(process)d %(lineno)x"]
)
def test_text_is_what_logging_writes(fmt):
    """logging.Formatter's own result, traceback and stack included, is what unescaping gives."""
    made = logging.LogRecord("shop", 20, "p.py", 42, "two\nlines", None, None)
    made.exc_text = "Traceback:\n  File \\x\nKeyError\n"
    made.stack_info = "Stack:\n\tdeep"
    record = make_record(dict(made.__dict__, args=None), "p", 1.5)
    rendered = TextTemplate(fmt).render(record).decode()
    lines.check_text(rendered.encode())
    assert unescape(rendered[:-1]) == logging.Formatter(fmt).format(made)


def test_continuation_lines_start_with_a_tab():
    """So that a line that does not is a record, whatever a message holds."""
    assert _text("%(message)s", message="a\nb\n\tc\n") == "a\n\tb\n\t\tc\n\t\n"
    assert _text("%(message)s", message="\ta\tb") == "\\x09a\tb\n"
    assert _text("\t%(message)s", message="a") == "\\x09a\n"
    assert _text("%(message)s", message="\n") == "\n\t\n"
    assert _text("%(message)s", message="m", exc_text="T\nE", stack_info="S") == "m\n\tT\n\tE\n\tS\n"


@pytest.mark.parametrize("code", [code for code in DANGEROUS if chr(code) not in "\n\t"], ids=hex)
def test_dangerous_characters_are_escaped_in_text(code):
    """Each by its number, and a backslash as two."""
    escape = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    assert _text("%(message)s", message=f"a{chr(code)}\\b") == f"a{escape}\\\\b\n"


@pytest.mark.slow
@strategies.bounded
@given(st.text(st.characters(codec=None)))
def test_escaping_can_be_undone(text):
    """Any text comes back exactly, surrogates and escapes of its own included."""
    rendered = TextTemplate("%(message)s").render(_record(message=text))
    lines.check_text(rendered)
    assert unescape(rendered[:-1].decode()) == text


def test_unsafe_is_what_the_documentation_says():
    """The class holds each character of the list, and none beside it."""
    unsafe = re.compile(f"[{UNSAFE}]")
    found = {code for code in range(0x11000) if unsafe.match(chr(code))}
    assert found == set(DANGEROUS) | set(range(0xD800, 0xE000))


def test_asctime_is_loggings():
    """Local time, a comma, milliseconds."""
    made = logging.LogRecord("n", 20, "p", 1, "m", None, None)
    for created in (0.0, 1.9999, CREATED, 1_783_000_000.4567):
        made.created = created
        made.msecs = int((created - int(created)) * 1000)
        assert asctime(created) == logging.Formatter().formatTime(made)

"""Checks the properties of every rendered line, whatever the client sent."""

import json
import re

from prefork_logd.records.record import make_record
from prefork_logd.records.render import TextTemplate, render_json, unescape

FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
TEMPLATE = TextTemplate("%(asctime)s %(levelname)-8s %(lineno)d %(name)s %(thread)x %(message)s %(x)5.1f %(user)r")
PLAIN_TEMPLATE = TextTemplate("%(name)s %(message)s")
PEER = "192.0.2.7:40000"
RECEIVED = 1_795_404_250.5


def check_lines(attributes):
    """Make a record, render it in every form, and return its JSON line after all checks."""
    record = make_record(attributes, PEER, RECEIVED)
    line = render_json(record)
    text = line.decode("utf-8")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert not FORBIDDEN.search(text)
    assert "\t" not in text
    stored = json.loads(text, parse_constant=lambda name: [name])
    assert stored["peer"] == PEER
    assert stored["received"] == RECEIVED
    assert all(value is not None and value not in ("", {}) for value in stored.values())
    assert list(stored) == [field for field in record.__struct_fields__ if field in stored]
    for template in (TEMPLATE, PLAIN_TEMPLATE):
        check_text(template.render(record))
    wanted = f"{_shown(record.name)} {_shown(record.message)}"
    for block in (record.exc_text, record.stack_info):
        if block:
            wanted = wanted + ("" if wanted.endswith("\n") else "\n") + block
    assert unescape(PLAIN_TEMPLATE.render(record)[:-1].decode()) == wanted
    return stored


def _shown(value):
    return "-" if value is None else value


def check_text(rendered):
    """Check that a rendered text record is exactly one record."""
    text = rendered.decode("utf-8")
    assert text.endswith("\n")
    assert not FORBIDDEN.search(text)
    first, *others = text[:-1].split("\n")
    assert not first.startswith("\t")
    assert all(other.startswith("\t") for other in others)
    assert len(text.splitlines()) == len(others) + 1

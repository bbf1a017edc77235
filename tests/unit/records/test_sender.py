"""Who sent a record: read with limits, and put into a record where it has no such field itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prefork_logd.records.record import Record, make_record
from prefork_logd.records.render import render_json
from prefork_logd.records.sender import MOST_CHARS, MOST_FIELDS, NOBODY, Sender, make_sender, read_sender


def read(document: Any) -> Sender:
    return read_sender(json.dumps(document).encode(), "192.0.2.7")


def made(**attributes: Any) -> Record:
    return make_record({"msg": "m", "created": 1.0, **attributes}, "192.0.2.7:1", 2.0)


def test_a_whole_description() -> None:
    """Each text has its field, and fields of its own are scalars."""
    fields = {"region": "eu", "n": 3, "load": 0.5, "on": True, "none": ""}
    found = read({"host": "web-1", "service": "shop", "environment": "prod", "version": "2.4", "fields": fields})
    assert found[:6] == ("web-1", "shop", "prod", "2.4", "", fields)


@pytest.mark.parametrize("document", [b"", b"[]", b"{", b"\xff", b'{"host": "\\ud800"}', b"[" * 700])
def test_no_description(document: bytes) -> None:
    """The host is then the client's address."""
    assert read_sender(document, "192.0.2.7")[:6] == ("192.0.2.7", "", "", "", "", {})
    assert read_sender(document, "192.0.2.7", "web-7").peer_name == "web-7"


def test_values_beyond_the_limits_are_left_out() -> None:
    """The rest of the description counts."""
    found = read(
        {
            "host": 5, "service": "s" * (MOST_CHARS + 1), "environment": ["prod"], "version": "2.4", "other": 1,
            "fields": {"": 1, "list": [1], "none": None, "big": 1 << 63, "long": "x" * 256, "kept": -(1 << 63)},
        }
    )  # fmt: skip
    assert found[:6] == ("192.0.2.7", "", "", "2.4", "", {"kept": -(1 << 63)})
    assert len(read({"fields": {str(number): number for number in range(100)}}).fields) == MOST_FIELDS


def test_a_record_is_signed() -> None:
    """A record's own attributes are kept, also those that are called like a field."""
    sender = make_sender("web-1", "shop", "", "2.4", {"region": "eu", "service": "x", "n": 1})
    record = made(region="us", host="mine")
    sender.sign(record)
    assert (record.host, record.service, record.environment, record.version) == ("web-1", "shop", None, "2.4")
    assert record.extra == {"region": "us", "host": "mine", "service": "x", "n": 1}
    record.host = "other"
    make_sender("web-2").sign(record)
    assert record.host == "other"


@pytest.mark.parametrize("attributes", [{}, {"args": (1,)}])
def test_a_client_cannot_name_itself(attributes: dict[str, Any]) -> None:
    """The name is the certificate's, or there is none: neither a description nor a record of the client counts."""
    described = b'{"service": "shop", "peer_name": "root", "fields": {"peer_name": "root"}}'
    for name in ("", "web-7"):
        record = made(peer_name="admin", **attributes)
        assert record.peer_name is None
        read_sender(described, "192.0.2.7", name).sign(record)
        assert record.peer_name == (name or None)
        assert record.extra["peer_name"] == "admin"


def test_nobody_signs_nothing() -> None:
    """A record that has no sender stays as it is."""
    record, same = made(a=1), made(a=1)
    NOBODY.sign(record)
    assert record == same


@pytest.mark.parametrize("text", ["shop", "\u0085" * 255, '"' * 200])
def test_its_size_bounds_what_it_adds_to_a_line(text: str) -> None:
    """Also where each character is escaped."""
    sender = make_sender(text, text, text, text, {text: text, "n": 1 << 60})
    record = made()
    before = len(render_json(record))
    sender.sign(record)
    assert len(render_json(record)) - before <= sender.nbytes

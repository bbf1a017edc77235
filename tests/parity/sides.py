"""One frame by the compiled core and by the Python modules that are its specification."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.redact import DEFAULT_KEYS
from prefork_logd.errors import RecordRejected
from prefork_logd.ingest import core as native
from prefork_logd.ingest.bounded import json_line, text_line
from prefork_logd.ingest.routing import Router
from prefork_logd.inputs.pickles import decode
from prefork_logd.records.record import make_record
from prefork_logd.records.redaction import Redactor
from prefork_logd.records.render import TextTemplate
from prefork_logd.records.sender import NOBODY, read_sender

PEER = "192.0.2.7:40000"
RECEIVED = 1_795_404_250.5
OUTPUTS = (
    OutputSettings(path="a"),
    OutputSettings(path="b", format="text", template="%(asctime)s %(levelname)-8s %(lineno)05d [%(name)s] %(message)s"),
    OutputSettings(
        path="c", format="text", template="%(x)s %(key)6s %(created)s %(time)s %(peer)s|%(thread)d %(message)9s"
    ),
    OutputSettings(
        path="g",
        format="text",
        template="%(service)-6s %(environment)s %(host)s %(version)5s %(region)s %(key)03d %(on)s %(load)s %(msg)s "
        "%(peer_name)22s",
    ),
    OutputSettings(path="d", format="text", template="%(message)s"),
    OutputSettings(path="e", level="WARNING"),
    OutputSettings(path="f", format="json", loggers=["shop", "a.b"], level="INFO"),
    OutputSettings(path="h", services=["sh\u00f6p", "cart"]),
    OutputSettings(path="i", services=["sh\u00f6p"], environments=["prod"], loggers=["shop"]),
)
SENDER = read_sender(
    b'{"host":"web-1","service":"sh\\u00f6p","version":"2.4",'
    b'"fields":{"x":"by the sender","key":7,"region":"eu","on":true,"load":0.5}}',
    "192.0.2.7",
    'web "7".ex\u00e4mple',
)
TEMPLATES = tuple(TextTemplate(output.template) if output.format == "text" else None for output in OUTPUTS)
ROUTER = Router(OUTPUTS)
REDACTOR = Redactor((*DEFAULT_KEYS, "ke*", "*x"), ["key"])


def outputs(chosen=OUTPUTS):
    """Return what a Core is told of outputs."""
    return [
        (
            TextTemplate(one.template).parts if one.format == "text" else None,
            *(one.levelno, one.loggers, one.services, one.environments),
        )
        for one in chosen
    ]


@dataclass
class Rejected:
    """The verdict of the specification."""

    reason: str
    detail: str


def specified(frame):
    """Decode a frame without the compiled core's reader."""
    used, decode.read_symbols = decode.read_symbols, None
    try:
        return decode.decode(frame)
    finally:
        decode.read_symbols = used


def by_python(frame, redactor=REDACTOR, sender=NOBODY):
    """Return each output's line (None: filtered out), or Rejected; nothing of it is read by the compiled core."""
    try:
        record = make_record(specified(frame), PEER, RECEIVED)
        redactor.redact(record)
        sender.sign(record)
        lines = [
            text_line(template, record, frame) if template else json_line(record, frame, redactor, sender)
            for template in TEMPLATES
        ]
    except RecordRejected as verdict:
        return Rejected(verdict.reason, verdict.detail)
    route = ROUTER.route(record.name or "", record.levelno or 0, record.service or "", record.environment or "")
    return [line if index in route else None for index, line in enumerate(lines)]


def core(chosen=OUTPUTS, redactor=REDACTOR):
    """Return a compiled Core; the test is skipped, out loud, without one."""
    if native.speedups is None:
        pytest.skip(f"no compiled core to compare: {native.MISSING}")
    return native.speedups.Core(outputs(chosen), (), False, redactor)


def agree(one, frame, redactor=REDACTOR, sender=NOBODY):
    """Check that the compiled core writes what Python writes; return whether it wrote it, or left it to Python."""
    lines = one.lines(frame, PEER, RECEIVED, sender)
    if lines is None:
        return False
    assert lines == by_python(frame, redactor, sender), frame
    return True

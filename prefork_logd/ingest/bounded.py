"""Renders a record as lines, and cuts a record whose lines would be longer than the length of its frame allows.

Owns the decision that a line is too long: a line is made, measured, and if necessary made again of the parts that fit
(docs/record.md). Does not know outputs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET, exceeded
from prefork_logd.inputs.pickles.decode import Attributes, decode_cut
from prefork_logd.records.record import NOT_EXTRA, OUR_ATTRIBUTES, make_record
from prefork_logd.records.render import render_json
from prefork_logd.records.sender import NOBODY, Sender
from prefork_logd.records.values import REST

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefork_logd.records.record import Record
    from prefork_logd.records.redaction import Redactor
    from prefork_logd.records.render import TextTemplate
    from prefork_logd.records.values import Plain

_ALWAYS = DEFAULT_BUDGET.output_always
"""Bytes of a line that are always allowed, however small the frame."""


MOST_PATHS = 32
MOST_PATH_CHARACTERS = 256
_FIELDS = {"msg": "message", "message": "message", **OUR_ATTRIBUTES, REST: "extra"}


def cut_record(attributes: Mapping[str, Plain], peer: str, received: float) -> Record:
    """Return the record of attributes, with the paths of those that were cut. Never raises."""
    record = make_record(attributes, peer, received)
    if isinstance(attributes, Attributes):
        # After those that the client has cut itself.
        record.truncated += [path for path in _paths(attributes.truncated) if path not in record.truncated]
    return record


def _paths(names: list[str]) -> list[str]:
    """Return the paths of attributes in a stored record, of which the last stands for those that are too many."""
    paths = []
    for name in names[:MOST_PATHS]:
        field = name if name in NOT_EXTRA and name not in ("args", "exc_info") else f"extra.{name}"
        paths.append(_FIELDS.get(name, field)[:MOST_PATH_CHARACTERS])
    return [*paths, REST] if len(names) > MOST_PATHS else paths


def json_line(record: Record, frame: bytes, redactor: Redactor, sender: Sender = NOBODY) -> bytes:
    """Return the line of JSON of the record that `frame` holds, and that `sender` has signed.

    If it has to be cut, `redactor` and `sender` are applied anew.

    Raises RecordRejected if nothing of it fits.
    """
    line = render_json(record)
    if len(line) <= _ALWAYS or len(line) <= DEFAULT_BUDGET.output_for(len(frame)) + sender.nbytes:
        return line
    record = cut_record(decode_cut(frame), record.peer, record.received)
    redactor.redact(record)
    sender.sign(record)
    return render_json(record)


def whole_json_line(
    record: Record,
    body: bytes,
    redactor: Redactor,  # noqa: ARG001 - nothing is made anew
    sender: Sender = NOBODY,
) -> bytes:
    """Return the line of JSON of a record that `body` holds in a form other than a pickle.

    Raises RecordRejected for a line that is too long: it cannot be made again of the parts that fit.
    """
    line = render_json(record)
    if len(line) <= _ALWAYS or len(line) <= DEFAULT_BUDGET.output_for(len(body)) + sender.nbytes:
        return line
    raise exceeded("bytes of its line")


def text_line(template: TextTemplate, record: Record, frame: bytes) -> bytes:
    """Return the text of the record that `frame` holds, be it a pickle or a stored line. Never raises."""
    return template.render(record, DEFAULT_BUDGET.output_for(len(frame)))

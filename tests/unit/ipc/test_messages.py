"""Messages are known by tags that do not change: the other process may be of another version."""

from __future__ import annotations

import typing

import msgspec
import pytest

from prefork_logd.ipc import messages
from prefork_logd.ipc.messages import AnyMessage, Message

TAGS = {
    "Alive": "alive",
    "Attach": "attach",
    "Certificates": "certificates",
    "Configure": "configure",
    "Configured": "configured",
    "Drain": "drain",
    "Stopping": "stopping",
    "Forget": "forget",
    "HandOver": "hand-over",
    "HandedOver": "handed-over",
    "Ping": "ping",
    "Pong": "pong",
    "Probe": "probe",
    "Ready": "ready",
    "Reopen": "reopen",
    "Reopened": "reopened",
    "Retire": "retire",
    "Settled": "settled",
    "StatusReport": "status-report",
    "TakeOver": "take-over",
    "WakeupFd": "wakeup-fd",
}
"""Rename a class as you like, but not its tag."""

EXAMPLES = {"int": 7, "bool": True, "str": "x", "tuple[int, ...]": (1, 2)}


def test_every_message_has_a_tag_of_its_own() -> None:
    """And can be received."""
    kinds = {kind.__name__: kind for kind in typing.get_args(AnyMessage)}
    assert {name: kind.__struct_config__.tag for name, kind in kinds.items()} == TAGS
    assert set(kinds) == {kind.__name__ for kind in Message.__subclasses__()}


@pytest.mark.parametrize("name", TAGS)
def test_a_message_comes_back(name: str) -> None:
    """With the fields that it must have; fields that a newer version has added are ignored."""
    kind = getattr(messages, name)
    values = {field.name: EXAMPLES[field.type] for field in _fields(kind) if field.required}
    message = kind(**values)
    document = msgspec.json.decode(msgspec.json.encode(message))
    assert msgspec.json.decode(msgspec.json.encode(document | {"later": 1}), type=AnyMessage) == message


class _Field(typing.NamedTuple):
    name: str
    type: str
    required: bool


def _fields(kind: type[Message]) -> list[_Field]:
    return [
        _Field(name, str(kind.__annotations__[name]), default is msgspec.NODEFAULT)
        for name, default in zip(
            kind.__struct_fields__,
            [msgspec.NODEFAULT] * (len(kind.__struct_fields__) - len(kind.__struct_defaults__))
            + list(kind.__struct_defaults__),
            strict=True,
        )
    ]

"""What a handler tells of its service: checked arguments first, then OpenTelemetry's environment variables."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from prefork_logd.handlers._sender import MOST_BYTES, describe
from prefork_logd.inputs.session.messages import LARGEST, Message


def described(*arguments: Any, **environ: str) -> tuple[dict[str, Any], str | None]:
    document, trouble = describe(*arguments, environ=environ)
    return json.loads(document), trouble


def test_the_host_is_always_told() -> None:
    """Nothing else is, if nobody says it."""
    assert described() == ({"host": socket.gethostname()}, None)


def test_arguments_come_before_the_environment() -> None:
    """An empty one leaves the field out."""
    attributes = "service.name=a,service.version=1,deployment.environment=test,deployment.environment.name=prod"
    environ = {"OTEL_RESOURCE_ATTRIBUTES": f"{attributes},host.name=web-1,k8s.pod.name=p"}
    assert described(**environ)[0] == {"host": "web-1", "service": "a", "version": "1", "environment": "prod"}
    environ["OTEL_SERVICE_NAME"] = "b"
    assert described(**environ)[0]["service"] == "b"
    found, _ = described("c", "", "2", {"region": "eu", "n": 1, "on": False}, **environ)
    assert found == {"host": "web-1", "service": "c", "version": "2", "fields": {"region": "eu", "n": 1, "on": False}}


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("service.name=a%2Cb%3Dc", "a,b=c"),
        (" service.name = caf%C3%A9 , ", "caf\u00e9"),
        ("service%2Ename=a=b", "a=b"),
        ("service.name=caf\u00e9%20x", "caf\u00e9 x"),
    ],
)
def test_attributes_are_percent_decoded(text: str, service: str) -> None:
    """As OpenTelemetry has them: any character may be encoded, comma and equals sign must be."""
    assert described(OTEL_RESOURCE_ATTRIBUTES=text)[0]["service"] == service


@pytest.mark.parametrize("text", ["service.name", "service.name=a%2", "service.name=%zz", "service.name=%ff", "=a"])
def test_attributes_that_cannot_be_read_are_ignored_as_a_whole(text: str) -> None:
    """That is said, and the service goes on."""
    found, trouble = described(OTEL_RESOURCE_ATTRIBUTES=f"service.version=1,{text}", OTEL_SERVICE_NAME="b")
    assert found == {"host": socket.gethostname(), "service": "b"}
    assert trouble is not None
    assert "OTEL_RESOURCE_ATTRIBUTES is ignored" in trouble


def test_a_variable_beyond_the_limits_is_ignored() -> None:
    """Nobody's service ends because of it."""
    found, trouble = described(OTEL_SERVICE_NAME="x" * 300)
    assert "service" not in found
    assert trouble is not None


@pytest.mark.parametrize(
    "arguments",
    [
        (5,),
        ("shop\n",),
        ("x" * 256,),
        (None, ["prod"]),
        (None, None, 2.4),
        (None, None, None, ["region"]),
        (None, None, None, {"": 1}),
        (None, None, None, {5: 1}),
        (None, None, None, {"a": None}),
        (None, None, None, {"a": [1]}),
        (None, None, None, {"a": float("nan")}),
        (None, None, None, {"a": 1 << 63}),
        (None, None, None, {"a": "\x1b[31m"}),
        (None, None, None, dict.fromkeys(map(str, range(33)), 1)),
        (None, None, None, {"a": "x" * 250, "b": "x" * 250, "c": "x" * 250}),
    ],
)
def test_wrong_arguments(arguments: tuple[Any, ...]) -> None:
    """They are the caller's fault, and told at once."""
    with pytest.raises(ValueError, match=r"must be|at most"):
        describe(*arguments, environ={})


def test_it_fits_into_hello() -> None:
    """Beside the longest name of a client."""
    assert LARGEST[Message.HELLO] >= 32 + 255 + 2 + MOST_BYTES


def test_surrogates_become_question_marks() -> None:
    """The environment of a service may hold any octets."""
    assert described("a\udcffb")[0]["service"] == "a?b"

"""The stream's configuration: a difference is named with both values, and a weak promise is a warning."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("nats")

from nats.js.api import DiscardPolicy, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

from prefork_logd.config.stores.nats import NatsStoreSettings
from prefork_logd.errors import StoreError
from prefork_logd.stores.nats import stream
from prefork_logd.stores.nats.stream import check_stream, describe_stream, ensure_stream, wish_of

SETTINGS = NatsStoreSettings(name="n")


def _info(config: StreamConfig, peers: list[Any] | None = None) -> Any:
    cluster = None if peers is None else SimpleNamespace(replicas=peers)
    return SimpleNamespace(config=config, cluster=cluster, state=SimpleNamespace(messages=7, bytes=700))


def _config(**changes: Any) -> StreamConfig:
    return stream._wanted(wish_of(SETTINGS)).evolve(**changes)


def _connection(max_payload: int = 1 << 20) -> Any:
    return SimpleNamespace(where="nats://x:1", max_payload=max_payload, is_clustered=False)


def test_the_stream_that_we_make_is_as_it_should_be() -> None:
    """Also where servers report no bound as None or 0."""
    check_stream(_connection(), wish_of(SETTINGS), _info(_config()), "[[store]]")
    check_stream(_connection(), wish_of(SETTINGS), _info(_config(max_bytes=None)), "[[store]]")
    check_stream(_connection(), wish_of(SETTINGS), _info(_config(max_msgs=-1, max_msg_size=0)), "[[store]]")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subjects": ["other.>"]}, "subject is \\['other.>'\\] on the server"),
        ({"num_replicas": 3}, "replicas is 3 on the server and 1 in \\[\\[store\\]\\]"),
        ({"discard": DiscardPolicy.OLD}, "discard is old on the server and new"),
        ({"max_age": 60}, "retain is 60s on the server and 604800s"),
        ({"max_bytes": 5}, "max_bytes is 5 on the server and 0"),
        ({"metadata": {}}, "partitions is not in the metadata .* and 16"),
        ({"max_msgs": 5}, "max_msgs is 5, by which records would be thrown away"),
        ({"max_msgs_per_subject": 1, "max_msg_size": 9}, "max_msgs_per_subject is 1 and max_msg_size is 9"),
    ],
)
def test_a_stream_that_differs_is_refused(changes: dict[str, Any], said: str) -> None:
    """By the names that the settings have."""
    with pytest.raises(StoreError, match=said):
        check_stream(_connection(), wish_of(SETTINGS), _info(_config(**changes)), "[[store]]")


def test_replicas_need_a_cluster() -> None:
    """The error says how to mend it."""
    wish = wish_of(NatsStoreSettings(name="n", replicas=3))
    with pytest.raises(StoreError, match="set replicas = 1"):
        stream._check_replicas(_connection(), wish, "[[store]]")


def test_weak_promises_are_warnings() -> None:
    """Each with its reason."""
    peers = [SimpleNamespace(current=True, offline=False), SimpleNamespace(current=False, offline=False)]
    described = describe_stream(_connection(), _info(_config(num_replicas=3), peers), SETTINGS)
    assert described["replicas_in_step"] == 2
    assert described["warnings"] == ["replicas away or behind: 1 of 3"]
    weak = NatsStoreSettings(name="n", sync_wait="10s", duplicate_window="5s")
    described = describe_stream(_connection(65_536), _info(_config(duplicate_window=5)), weak)
    assert [warning.split(" is ")[0] for warning in described["warnings"]] == [
        "replicas", "duplicate_window", "sync_wait", "max_payload",
    ]  # fmt: skip


def test_a_stream_whose_subjects_another_one_has_is_named_with_the_remedy() -> None:
    """The servers say neither which stream nor which subjects; of other refusals they say more."""
    wish = wish_of(SETTINGS)

    def make(number: int) -> None:
        answers = [NotFoundError(code=404), BadRequestError(code=400, err_code=number, description="overlap")]

        async def ask(_question: Any) -> None:
            raise answers.pop(0)

        connection = SimpleNamespace(where="nats://x:1", is_clustered=False, ask=ask)
        asyncio.run(ensure_stream(connection, wish, "[[store]]"))  # type: ignore[arg-type]

    with pytest.raises(
        StoreError, match=r"stream LOGS cannot .* subjects of logs\.>; set another subject in \[\[store"
    ):
        make(10065)
    with pytest.raises(BadRequestError):
        make(10052)

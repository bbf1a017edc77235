"""Makes, checks, describes and scans the stream of NATS JetStream that holds records.

Owns the configuration that a stream must have, and the warnings about too few guarantees. Does not know sockets
(connection.py), and of a message only its header.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple

from prefork_logd.config.stores.nats import SYNC_INTERVAL_S
from prefork_logd.config.values import format_count, format_duration
from prefork_logd.errors import StoreError
from prefork_logd.stores.base import Finding
from prefork_logd.stores.nats import wire
from prefork_logd.stores.nats.connection import Connection, check_limits

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from nats.js.api import StreamConfig, StreamInfo

    from prefork_logd.config.stores.nats import NatsStoreSettings

PARTITIONS_KEY = "prefork-logd-partitions"
"""The key of the stream's metadata that has the number of partitions."""
_SCAN_MESSAGES = 1000
_FOREIGN_LIMITS = ("max_msgs", "max_msgs_per_subject", "max_msg_size")
"""Limits of a stream that our settings do not set; -1 or 0 for none."""
DEFAULT_PAYLOAD = 1 << 20
"""The servers' default max_payload in bytes."""


class StreamWish(NamedTuple):
    """The wanted configuration of a stream."""

    name: str
    subject: str
    partitions: int
    replicas: int
    max_age_s: float
    max_bytes: int
    """0 for no limit."""
    duplicate_window_s: float


def wish_of(settings: NatsStoreSettings) -> StreamWish:
    """Return the configuration that a store's settings ask for."""
    return StreamWish(
        settings.stream, settings.subject, settings.partitions, settings.replicas, settings.retain_s,
        settings.max_bytes, settings.duplicate_window_s,
    )  # fmt: skip


class Found(NamedTuple):
    """A message that the stream holds."""

    sequence: int
    range: wire.Range


_SUBJECTS_OVERLAP = 10065
"""The servers' number of that error (JSStreamSubjectOverlapErr)."""


async def ensure_stream(connection: Connection, wish: StreamWish, whose: str) -> StreamInfo:
    """Make the stream, or check its configuration.

    Raises StoreError that names every different key, with both values; `whose` is the name of the settings.
    """
    from nats.js.errors import BadRequestError, NotFoundError

    wanted = _wanted(wish)
    try:
        info = await connection.ask(lambda stream: stream.stream_info(wish.name))
    except NotFoundError:
        _check_replicas(connection, wish, whose)
        try:
            info = await connection.ask(lambda stream: stream.add_stream(wanted))
        except BadRequestError as error:
            if error.err_code != _SUBJECTS_OVERLAP:
                raise
            raise StoreError(
                f"stream {wish.name} cannot be made on {connection.where}: another stream there has subjects of "
                f"{wish.subject}.>; set another subject in {whose}, or the name of that stream"
            ) from error
    check_stream(connection, wish, info, whose)
    return info


def check_stream(connection: Connection, wish: StreamWish, info: StreamInfo, whose: str) -> None:
    """Check a stream's configuration. Raises StoreError that names every different key, with both values."""
    differences = list(_differences(_wanted(wish), info.config))
    if differences:
        what = "; ".join(f"{key} is {there} on the server and {here} in {whose}" for key, there, here in differences)
        raise StoreError(f"stream {wish.name} on {connection.where}: {what}; change one of them")
    limits = [
        f"{key} is {value}"
        for key in _FOREIGN_LIMITS
        if (value := getattr(info.config, key, None)) is not None and value > 0
    ]
    if limits:
        raise StoreError(
            f"stream {wish.name} on {connection.where}: {' and '.join(limits)}, by which records would be thrown away "
            f"or refused; set it back to -1 (nats stream edit {wish.name})"
        )


def _check_replicas(connection: Connection, wish: StreamWish, whose: str) -> None:
    if wish.replicas > 1 and not connection.is_clustered:
        raise StoreError(
            f"stream {wish.name} cannot be made on {connection.where}: replicas is {wish.replicas} in {whose}, and the "
            "server is in no cluster; set replicas = 1, or start the servers as one (examples/cluster)"
        )


def _wanted(wish: StreamWish) -> StreamConfig:
    from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig

    return StreamConfig(
        name=wish.name,
        description="Log records (prefork-logd)",
        subjects=[f"{wish.subject}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        # A full stream refuses messages, so that records wait in the journal: DISCARD_OLD would lose records.
        discard=DiscardPolicy.NEW,
        num_replicas=wish.replicas,
        max_age=wish.max_age_s,
        max_bytes=wish.max_bytes or -1,
        duplicate_window=wish.duplicate_window_s,
        allow_direct=True,
        metadata={PARTITIONS_KEY: str(wish.partitions)},
    )


def describe_stream(connection: Connection, info: StreamInfo, settings: NatsStoreSettings) -> dict[str, Any]:
    """Return the effective configuration, and warnings where it weakens the guarantees in docs/nats.md."""
    config, cluster = info.config, info.cluster
    replicas = config.num_replicas or 1
    followers = (cluster.replicas or []) if cluster is not None else []
    in_step = 1 + sum(bool(peer.current) and not peer.offline for peer in followers)
    warnings = []
    if replicas == 1:
        warnings.append("replicas is 1: what the stream holds is lost with its server's disk")
    elif in_step < replicas:
        warnings.append(f"replicas away or behind: {replicas - in_step} of {replicas}")
    if (config.duplicate_window or 0) < settings.sync_wait_s:
        warnings.append("duplicate_window is below sync_wait: other readers than collectors may see messages twice")
    if settings.sync_wait_s < SYNC_INTERVAL_S:
        warnings.append("sync_wait is below NATS's sync_interval (2m unless set): a power loss may cost records")
    if connection.max_payload < DEFAULT_PAYLOAD:
        warnings.append(f"max_payload is {connection.max_payload} on the servers: longer records become dead letters")
    window_s = config.duplicate_window or 0
    in_words = f"{in_step} of {format_count(replicas, 'replica')} in step, duplicate window {format_duration(window_s)}"
    return {
        "summary": f"stream {config.name}, {in_words}",
        "stream": config.name,
        "messages": info.state.messages,
        "bytes": info.state.bytes,
        "replicas": replicas,
        "replicas_in_step": in_step,
        "duplicate_window_s": window_s,
        "sync_wait_s": settings.sync_wait_s,
        "warnings": warnings,
    }


def query_stream(settings: NatsStoreSettings) -> dict[str, Any]:
    """Query the state of a store's stream, and change nothing. Raises StoreError, also if the stream differs."""
    from nats.js.errors import NotFoundError

    connection = Connection(settings, "prefork-logd check", settings.timeout_s)

    async def ask() -> StreamInfo | None:
        try:
            return await connection.ask(lambda stream: stream.stream_info(settings.stream))
        except NotFoundError:
            return None

    try:
        connection.open()
        check_limits(connection)
        info = connection.run(ask())
        if info is None:
            _check_replicas(connection, wish_of(settings), "[[store]]")
            return {"stream": settings.stream, "messages": None, "warnings": []}
        connection.run(ensure_stream(connection, wish_of(settings), "[[store]]"))
        return describe_stream(connection, info, settings)
    finally:
        connection.close()


def probe(settings: NatsStoreSettings) -> Finding:
    """Return the state of a store's stream for `check --connect`. Raises StoreError like `query_stream`."""
    found = query_stream(settings)
    stream = f"stream {found['stream']}"
    if found["messages"] is None:
        return Finding(f"{stream} is not there; it will be made")
    replicas = f"replicas {found['replicas']} ({found['replicas_in_step']} in step)"
    window = f"duplicate_window {format_duration(found['duplicate_window_s'])}"
    held = f"{format_count(found['messages'], 'message')}, {format_count(found['bytes'], 'byte')}"
    sentence = f"{stream}: {replicas}, {window}, {held}"
    return Finding(sentence, tuple(found["warnings"]))


def _differences(wanted: StreamConfig, found: StreamConfig) -> list[tuple[str, str, str]]:
    """Return (key, server's value, our value) of each difference, by the names of the settings."""
    pairs = {
        "subject": (found.subjects, wanted.subjects),
        "retention": (_word(found.retention), _word(wanted.retention)),
        "storage": (_word(found.storage), _word(wanted.storage)),
        "discard": (_word(found.discard), _word(wanted.discard)),
        "replicas": (found.num_replicas, wanted.num_replicas),
        "retain": (_seconds(found.max_age), _seconds(wanted.max_age)),
        "max_bytes": (max(0, found.max_bytes or 0), max(0, wanted.max_bytes or 0)),
        "duplicate_window": (_seconds(found.duplicate_window), _seconds(wanted.duplicate_window)),
        "partitions": (
            (found.metadata or {}).get(PARTITIONS_KEY, f"not in the metadata ({PARTITIONS_KEY})"),
            (wanted.metadata or {})[PARTITIONS_KEY],
        ),
    }
    return [(key, str(there), str(here)) for key, (there, here) in pairs.items() if there != here]


def _word(value: object) -> str:
    return str(getattr(value, "value", value))


def _seconds(value: float | None) -> str:
    return f"{value or 0:g}s"


async def scan(connection: Connection, stream_name: str, subject: str, start: int) -> AsyncGenerator[Found, None]:
    """Yield the headers of the messages on a subject, from a sequence on; messages of other programs are skipped."""
    from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

    stream = connection.stream
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
        opt_start_seq=max(1, start),
        ack_policy=AckPolicy.NONE,
        filter_subject=subject,
        headers_only=True,
        inactive_threshold=60,
        mem_storage=True,
        num_replicas=1,
    )
    consumer = await connection.ask(lambda quick: quick.add_consumer(stream_name, config))
    try:
        pending = consumer.num_pending or 0
        subscription = await stream.pull_subscribe_bind(consumer=consumer.name, stream=stream_name)
        while pending:
            for message in await subscription.fetch(min(_SCAN_MESSAGES, pending), timeout=connection.timeout_s):
                pending = message.metadata.num_pending or 0
                with contextlib.suppress(wire.FormError):
                    yield Found(message.metadata.sequence.stream, wire.read_header(message.headers))
        await subscription.unsubscribe()
    finally:
        with contextlib.suppress(Exception):
            await stream.delete_consumer(stream_name, consumer.name)

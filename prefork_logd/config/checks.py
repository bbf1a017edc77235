"""Checks what concerns several tables of the configuration, or the files that it names.

Does not know TOML.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.config import file_conflicts
from prefork_logd.config.nats import file_problems
from prefork_logd.config.stores.kinds import KINDS
from prefork_logd.config.values import MAX_KEY_ID_BYTES, MIN_KEY_BYTES
from prefork_logd.config.web import DEFAULT_ADDRESS, is_local
from prefork_logd.errors import describe_refusal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefork_logd.config.alerts import AlertSettings
    from prefork_logd.config.document import Document
    from prefork_logd.config.settings import Settings


def check_all(document: Document, home: str, settings: Settings) -> None:
    """Add every problem that concerns several tables, or files that are seen from the state directory `home`."""
    check_paths(document, home, settings)
    check_listeners(document, settings)
    check_limits(document, settings)
    check_web(document, settings)
    check_metrics(document, settings)
    check_alerts(document, settings)


def check_listeners(document: Document, settings: Settings) -> None:
    """Add the problems between listeners, and those of the keys that they need."""
    addresses = [address for address, _ in settings.listeners]
    if not addresses:
        document.add_problem("server", 0, "bind", "is empty, and there is no [[listener]]; name an address")
    for index, listener in enumerate(settings.listener):
        if addresses.count(listener.address) > 1:
            message = f"{listener.address!r} is named twice; name it once"
            document.add_problem("listener", index, "address", message)
    if any(accept == "authenticated" for _, accept in settings.listeners):
        try:
            load_keys(Path(settings.server.keys_file))
        except ValueError as error:
            document.add_problem("server", 0, "keys_file", str(error))


def check_limits(document: Document, settings: Settings) -> None:
    """Add a problem for each limit whose clients could not send one record of the largest size."""
    largest = settings.limits.max_record_bytes
    for index, limit in enumerate(settings.limit):
        if 0 < limit.memory < 2 * largest:
            message = f"must be at least twice limits.max_record_bytes, which is {largest}"
            document.add_problem("limit", index, "memory", message)


def check_web(document: Document, settings: Settings) -> None:
    """Add the problems of the page's addresses."""
    web = settings.web
    for address in web.bind:
        if not is_local(address) and not web.user and not web.proxy_header:
            message = (
                f"{address!r}: other hosts can reach this address, so the page needs a log-in; add a user with "
                "`prefork-logd web user NAME`, or set web.proxy_header"
            )
            document.add_problem("web", 0, "bind", message)
    used = {address for address, _ in settings.listeners if not address.endswith(":0")}
    if not web.is_by_default:
        for address in sorted(used.intersection(web.bind)):
            document.add_problem("web", 0, "bind", f"{address!r} takes records already; choose another address")


QUERY_CHECK = "prefork_logd.query.language:problem_of"
"""Returns what is wrong with a query. Imported when there is a rule: the language is on a floor above this one."""

FIELD_CHECK = "prefork_logd.query.language:field_problem_of"
"""The same of a field."""


def check_alerts(document: Document, settings: Settings) -> None:
    """Add the problems of rules and receivers with each other, and of the rules' queries."""
    document.refuse_repeated("alert", enumerate(rule.name for rule in settings.alert))
    for index, rule in enumerate(settings.alert):
        for key, message in rule_problems(rule, settings):
            document.add_problem("alert", index, key, message)


def rule_problems(rule: AlertSettings, settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield (key, sentence) for what is wrong between a rule and the rest of the configuration, and in its query."""
    receivers = [receiver.name for receiver in settings.receiver]
    for name in rule.send:
        if name not in receivers:
            known = ", ".join(receivers) or "none"
            yield "send", f"{name!r:.100}: there is no such receiver; configured ([[receiver]]): {known}"
    if not rule.send:
        yield "send", "is empty, so no notice would be sent; name a receiver"
    if rule.is_of_groups and settings.errors not in settings.shipped:
        yield "on", f'"{rule.on}" needs groups of errors: a store, and [errors] that are not turned off'
    if not rule.is_of_groups and not any(KINDS[store.type].search for store in settings.store):
        yield "on", f'"{rule.on}" needs a store that can be searched; write [[store]] (docs/stores.md)'
    if rule.store and rule.store not in [store.name for store in settings.store]:
        yield "store", f"{rule.store!r:.100}: there is no such store"
    for key, check in (("query", QUERY_CHECK), ("by", FIELD_CHECK)):
        module, _, name = check.partition(":")
        if getattr(rule, key) and (problem := getattr(importlib.import_module(module), name)(getattr(rule, key))):
            yield key, problem


def check_metrics(document: Document, settings: Settings) -> None:
    """Add a problem for each address of `[metrics]` that something else listens on."""
    taken = {
        **dict.fromkeys((address for address, _ in settings.listeners), "takes records"),
        **dict.fromkeys(settings.web.bind, "is an address of the page, which answers /metrics, too"),
    }
    for address in settings.metrics.bind:
        if address in taken and not address.endswith(":0"):
            document.add_problem("metrics", 0, "bind", f"{address!r} {taken[address]}; choose another address")


def check_paths(document: Document, home: str, settings: Settings) -> None:
    """Add a problem for each output or store that would write into a file of another, or of the collector."""
    for table, index, message in file_conflicts.problems(home, settings):
        document.add_problem(table, index, "path", message)
    for index, store in enumerate(settings.store):
        for key, message in store.file_problems():
            document.add_problem("store", index, key, message)
    for index, source in enumerate(settings.sources):
        for key, message in file_problems(source):
            document.add_problem("source", index, key, message)


def load_keys(path: Path) -> dict[bytes, bytes]:
    """Return the secrets of a keys file by their ids. Raises ValueError with a sentence for the user."""
    if path == Path():
        raise ValueError('is needed for accept = "authenticated"; name a file with a line "ID SECRET" for each key')
    try:
        if path.stat().st_mode & 0o077:
            raise ValueError(
                f"{path} can be read by others; do: chmod 600 {path}; it has to belong to the collector's user"
            )
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"{path}: cannot read it: {describe_refusal(error)}") from error
    keys: dict[bytes, bytes] = {}
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if not fields or fields[0].startswith(b"#"):
            continue
        if len(fields) != 2 or len(fields[0]) > MAX_KEY_ID_BYTES or len(fields[1]) < MIN_KEY_BYTES:
            raise ValueError(
                f"{path}:{number}: write an id of up to {MAX_KEY_ID_BYTES} characters, a space, and a secret of "
                f"{MIN_KEY_BYTES} or more"
            )
        if fields[0] in keys:
            raise ValueError(f"{path}:{number}: this id is taken by a line above; choose another")
        keys[fields[0]] = fields[1]
    if not keys:
        raise ValueError(f"{path} does not hold a key; write a line with an id and a secret")
    return keys


def warnings(settings: Settings) -> list[str]:
    """Return a sentence for each valid value that weakens a guarantee, or the safety of the page."""
    found = [f"store {store.name!r}: {key} {what}" for store in settings.store for key, what in store.warnings()]
    found += [
        f'listener {listener.address}: tls = "accept" lets plain clients in without a certificate; once all clients '
        'speak TLS, write tls = "require"'
        for listener in settings.tls_listeners.values()
        if listener.tls == "accept" and listener.tls_client_ca
    ]
    return [*found, *page_warnings(settings)]


def page_warnings(settings: Settings) -> list[str]:
    """Return those about the page, which are logged at a start, too."""
    found, web = [], settings.web
    if web.is_by_default and any(address in web.bind for address, _ in settings.listeners):
        found.append(f"web.bind: {DEFAULT_ADDRESS} takes records, so there is no page; set web.bind to another address")
    if web.is_public and not web.certificate:
        found.append(
            "web.bind: other hosts can reach the page without TLS, so passwords and records can be read on the way; "
            "set web.certificate and web.key, or bind to loopback behind a proxy with TLS"
        )
    return found

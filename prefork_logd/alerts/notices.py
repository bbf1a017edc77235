"""Makes notices: what a receiver is sent about an incident.

Owns the fields of a notice, which docs/alerts.md lists, and their bounds. Does not know the forms of services.
"""

from __future__ import annotations

import datetime as dt
import socket
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import msgspec

from prefork_logd.alerts.states import RESOLVED, TEST

if TYPE_CHECKING:
    from prefork_logd.config.alerts import AlertSettings

GROUP_QUERY = "fingerprint="
"""With the id of a group: the query that finds its records."""
GROUP_S = 3_600.0
"""The search for the records of a group of errors begins so long before the incident."""
MOST_QUERY = 1_000
"""Characters of a query in a notice."""


class Notice(msgspec.Struct, frozen=True):
    """One notice. Times are RFC 3339 in UTC; an empty text stands for none."""

    id: str
    """The incident and the kind: it is the same in every attempt to send the notice."""
    incident: str
    kind: str
    """firing, repeat-1 and so on, resolved, or test."""
    state: str
    """firing or resolved."""
    alert: str
    """Name of the rule."""
    title: str
    value: int
    """Records in the window; of a group of errors all of its errors."""
    on: str
    query: str
    """The query that finds the records."""
    started: str
    ended: str
    host: str
    """The host of the collector."""
    url: str
    """Link to the records on the page; empty without alerts.page_url."""
    by: str = ""
    """The value of the rule's `by` field; empty without one."""

    @property
    def subject(self) -> str:
        """The first line for people."""
        mark = {RESOLVED: "Resolved", TEST: "Test"}.get(self.kind, "Firing")
        return f"[{mark}] {self.alert}"

    @property
    def text(self) -> str:
        """The lines for people, below the subject."""
        lines = [
            self.title,
            f"since {self.started}" + (f" until {self.ended}" if self.ended else ""),
            f"host {self.host}",
        ]
        return "\n".join([*lines, *([self.url] if self.url else [])])


def make(
    rule: AlertSettings,
    incident: str,
    kind: str,
    *,
    title: str,
    value: int,
    query: str,
    started: float,
    ended: float = 0.0,
    page_url: str = "",
    by: str = "",
) -> Notice:
    """Return the notice of an incident; times are seconds since 1970."""
    return Notice(
        id=f"{incident}-{kind}",
        incident=incident,
        kind=kind,
        state=RESOLVED if kind == RESOLVED else "firing",
        alert=rule.name,
        title=title,
        value=value,
        on=rule.on,
        query=query[:MOST_QUERY],
        started=_rfc3339(started),
        ended=_rfc3339(ended) if ended else "",
        host=socket.gethostname(),
        url=_link(rule, query, started, ended, page_url) if page_url else "",
        by=by,
    )


def _rfc3339(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _link(rule: AlertSettings, query: str, started: float, ended: float, page_url: str) -> str:
    """Return the address of a group of errors, or of the search for the records without a query that is too long."""
    if query.startswith(GROUP_QUERY):
        return f"{page_url.rstrip('/')}/errors/{query.removeprefix(GROUP_QUERY)}"
    since = started - (GROUP_S if rule.is_of_groups else rule.window_s)
    given = {"q": query if len(query) <= MOST_QUERY else "", "since": _rfc3339(since)}
    until = {"until": _rfc3339(ended)} if ended else {}
    return f"{page_url.rstrip('/')}/?{urlencode({**given, **until})}"

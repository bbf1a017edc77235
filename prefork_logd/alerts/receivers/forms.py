"""Puts a notice into the JSON form of a service: Slack, Teams, Discord, PagerDuty, ntfy, or a template.

Owns the forms. Does not know HTTP. A title may hold text of log records: nothing in it is markup, a link or a mention.

Sources: Slack's incoming webhooks; Adaptive Cards 1.4 in Teams' workflows; Discord's "Execute Webhook"; PagerDuty's
Events API v2; ntfy's "Publish as JSON".
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from prefork_logd.alerts.states import RESOLVED, TEST
from prefork_logd.config.receivers import PAGERDUTY

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.alerts.notices import Notice

_SLACK = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~<>-])")
_FIELD = re.compile(r"\{([a-z]+)\}")
_COLOURS = {RESOLVED: 0x2EA043, TEST: 0x6E7781}
_FIRING_COLOUR = 0xD1242F


def body(form: str, notice: Notice, url: str, token: str, template: str) -> tuple[str, bytes]:
    """Return the address and the body for a notice. Raises ValueError for an address of ntfy without a topic."""
    if form == "pagerduty":
        return url or PAGERDUTY, _encode(_pagerduty(notice, token))
    if form == "ntfy":
        parts = urlsplit(url)
        root, _, topic = parts.path.rstrip("/").rpartition("/")
        if not topic:
            raise ValueError("the address of ntfy lacks the topic; write one such as https://ntfy.sh/TOPIC")
        return f"{parts.scheme}://{parts.netloc}{root}/", _encode(_ntfy(notice, topic))
    if form == "json":
        return url, _encode(_filled(json.loads(template), notice) if template else notice)
    return url, _encode(_FORMS[form](notice))


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _slack(notice: Notice) -> dict[str, Any]:
    text = f"{notice.subject}\n{notice.text}".translate(_SLACK)
    return {"text": text, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}


def _teams(notice: Notice) -> dict[str, Any]:
    blocks = [
        {"type": "TextBlock", "text": _escaped(notice.subject), "weight": "Bolder", "wrap": True},
        *({"type": "TextBlock", "text": _escaped(line), "wrap": True} for line in notice.text.splitlines()[:3]),
    ]
    actions = [{"type": "Action.OpenUrl", "title": "Records", "url": notice.url}] if notice.url else []
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": blocks,
        "actions": actions,
    }
    return {
        "type": "message",
        "attachments": [
            {"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": None, "content": card}
        ],
    }


def _discord(notice: Notice) -> dict[str, Any]:
    lines = "\n".join(_escaped(line) for line in notice.text.splitlines()[:3])
    embed = {
        "title": _escaped(notice.subject)[:256],
        "description": lines[:4096],
        "color": _COLOURS.get(notice.kind, _FIRING_COLOUR),
        **({"url": notice.url} if notice.url else {}),
    }
    return {"embeds": [embed], "allowed_mentions": {"parse": []}}


def _pagerduty(notice: Notice, token: str) -> dict[str, Any]:
    is_resolved = notice.kind in (RESOLVED, TEST)
    return {
        "routing_key": token,
        "event_action": "resolve" if is_resolved else "trigger",
        "dedup_key": notice.incident,
        "payload": {
            "summary": f"{notice.alert}: {notice.title}"[:1024],
            "source": notice.host,
            "severity": "error",
            "timestamp": notice.started,
            "custom_details": {"query": notice.query, "value": notice.value},
        },
        **({"links": [{"href": notice.url, "text": "Records"}]} if notice.url else {}),
    }


def _ntfy(notice: Notice, topic: str) -> dict[str, Any]:
    tags = {RESOLVED: "white_check_mark", TEST: "test_tube"}
    return {
        "topic": topic,
        "title": notice.subject,
        "message": notice.text,
        "tags": [tags.get(notice.kind, "rotating_light")],
        "priority": 3 if notice.kind in (RESOLVED, TEST) else 4,
        **({"click": notice.url} if notice.url else {}),
    }


_FORMS: dict[str, Callable[[Notice], dict[str, Any]]] = {"slack": _slack, "teams": _teams, "discord": _discord}


def _escaped(text: str) -> str:
    """Return text in which Markdown has no meaning."""
    return _MARKDOWN.sub(r"\\\1", text)


def _filled(value: Any, notice: Notice) -> Any:
    """Return a template with the fields of a notice; a string that is one field alone has the field's own type."""
    if isinstance(value, dict):
        return {key: _filled(inner, notice) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, notice) for inner in value]
    if not isinstance(value, str):
        return value
    fields = {**msgspec.structs.asdict(notice), "subject": notice.subject, "text": notice.text}
    if (alone := _FIELD.fullmatch(value)) and alone[1] in fields:
        return fields[alone[1]]
    return _FIELD.sub(lambda match: str(fields.get(match[1], match[0])), value)

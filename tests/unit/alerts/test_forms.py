"""The forms of services: what each wants, and nothing in a title that is more than text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prefork_logd.alerts import notices
from prefork_logd.alerts.receivers import forms
from prefork_logd.config.alerts import AlertSettings

HOSTILE = "<!channel> <http://evil|click> [x](http://evil) @everyone *b* `c` & 日本"


def body(form: str, kind: str = "firing", *, url: str = "https://x/y", template: str = "", page: str = "") -> Any:
    rule = AlertSettings(name="shop errors", query="level>=error")
    notice = notices.make(
        rule, "0" * 16, kind, title=HOSTILE, value=3, query=rule.query, started=1e9, ended=1e9 + 60, page_url=page
    )
    address, data = forms.body(form, notice, url, "key", template)
    return address, json.loads(data)


def test_slack() -> None:
    """Its markup is off, and what is left is escaped as Slack's documentation asks for."""
    address, found = body("slack", page="https://logs.example.org/")
    assert address == "https://x/y"
    assert "&lt;!channel&gt; &lt;http://evil|click&gt;" in found["text"]
    assert found["text"].startswith("[Firing] shop errors\n")
    assert found["mrkdwn"] is False
    times = "since=2001-09-09T01%3A41%3A40Z&amp;until=2001-09-09T01%3A47%3A40Z"
    assert f"https://logs.example.org/?q=level%3E%3Derror&amp;{times}" in found["text"]


def test_teams() -> None:
    """An adaptive card, without links from a title."""
    _, found = body("teams", page="https://logs.example.org")
    card = found["attachments"][0]["content"]
    assert (found["type"], card["type"], card["version"]) == ("message", "AdaptiveCard", "1.4")
    assert "\\[x\\]\\(http://evil\\)" in card["body"][1]["text"]
    assert card["actions"][0]["url"].startswith("https://logs.example.org/?q=")


def test_discord() -> None:
    """Nobody is mentioned."""
    _, found = body("discord", "resolved")
    assert found["allowed_mentions"] == {"parse": []}
    assert found["embeds"][0]["title"] == "\\[Resolved\\] shop errors"
    assert found["embeds"][0]["color"] == 0x2EA043


def test_pagerduty() -> None:
    """One incident there for one here; a test opens none."""
    address, found = body("pagerduty", url="")
    assert address == "https://events.pagerduty.com/v2/enqueue"
    assert (found["event_action"], found["dedup_key"], found["routing_key"]) == ("trigger", "0" * 16, "key")
    assert found["payload"].keys() >= {"summary", "source", "severity"}
    assert [body("pagerduty", kind)[1]["event_action"] for kind in ("repeat-1", "resolved", "test")] == [
        "trigger", "resolve", "resolve",
    ]  # fmt: skip


def test_ntfy() -> None:
    """The topic is the last part of the address."""
    address, found = body("ntfy", url="https://ntfy.sh/shop-alerts")
    assert (address, found["topic"], found["priority"]) == ("https://ntfy.sh/", "shop-alerts", 4)
    assert HOSTILE in found["message"]
    with pytest.raises(ValueError, match="lacks the topic"):
        body("ntfy", url="https://ntfy.sh/")


def test_the_link_of_a_group() -> None:
    """Leads to the group itself."""
    rule = AlertSettings(name="new", on="new-group")
    notice = notices.make(
        rule, "0" * 16, "firing", title="x", value=1, query="fingerprint=g1:0123", started=1e9, page_url="https://x/"
    )
    assert notice.url == "https://x/errors/g1:0123"


def test_a_template() -> None:
    """Values stay values, and text cannot break out of its string."""
    template = (
        '{"msg": "{alert}: {title}", "n": "{value}", "list": ["{state}", 1, null, "{nothing} {"], "k": {"a": true}}'
    )
    _, found = body("json", template=template)
    assert found == {
        "msg": f"shop errors: {HOSTILE}", "n": 3, "list": ["firing", 1, None, "{nothing} {"], "k": {"a": True},
    }  # fmt: skip


def test_the_whole_notice() -> None:
    """Without a template."""
    _, found = body("json")
    assert found["id"] == f"{'0' * 16}-firing"
    assert (found["started"], found["ended"]) == ("2001-09-09T01:46:40Z", "2001-09-09T01:47:40Z")

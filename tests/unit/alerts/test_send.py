"""A notice goes out by the type of its receiver; what is unusable in a receiver is named."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from prefork_logd.alerts import notices
from prefork_logd.alerts.receivers import mail
from prefork_logd.alerts.receivers.failures import MOST_ANSWER, SendError, read_secret, shown
from prefork_logd.alerts.receivers.send import send, unusable_parts
from prefork_logd.config.alerts import AlertSettings
from prefork_logd.config.receivers import CommandSettings, SmtpSettings, WebhookSettings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.alerting import Hook

NOTICE = notices.make(AlertSettings(name="shop"), "0" * 16, "firing", title="it failed", value=3, query="", started=1e9)


def webhook(**fields: object) -> WebhookSettings:
    return WebhookSettings(name="hook", **fields)  # type: ignore[arg-type]


def test_a_webhook_gets_the_notice_with_its_id_and_token(hook: Hook, tmp_path: Path) -> None:
    """Both the address and the token may be in files."""
    (tmp_path / "url").write_text(f"{hook.url}\n")
    (tmp_path / "token").write_text("secret\n")
    receiver = webhook(url_file=str(tmp_path / "url"), token_file=str(tmp_path / "token"))
    assert send(receiver, NOTICE) == "200 OK"
    (request,) = hook.requests
    assert request.id == NOTICE.id
    assert request.headers["Authorization"] == "Bearer secret"
    assert json.loads(request.body)["title"] == "it failed"


def test_without_a_token_there_is_no_authorization(hook: Hook) -> None:
    """Nor for PagerDuty, whose token is a part of the body."""
    send(webhook(url=hook.url), NOTICE)
    assert "Authorization" not in hook.requests[0].headers


def test_a_token_of_the_environment_is_used(hook: Hook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is missing is an error, and no request is made."""
    receiver = webhook(url=hook.url, token_env="SHOP_TOKEN")
    with pytest.raises(SendError, match="the environment of the collector has no secret in one line as SHOP_TOKEN"):
        send(receiver, NOTICE)
    assert hook.requests == []
    monkeypatch.setenv("SHOP_TOKEN", "secret")
    send(receiver, NOTICE)
    assert hook.requests[0].headers["Authorization"] == "Bearer secret"


def test_a_file_with_another_text_than_an_address_is_refused(tmp_path: Path) -> None:
    """By the name of the file: the text may be a secret."""
    (tmp_path / "url").write_text("ftp://secret.example/")
    with pytest.raises(SendError, match=re.escape(f"{tmp_path / 'url'}: ")) as caught:
        send(webhook(url_file=str(tmp_path / "url")), NOTICE)
    assert "secret.example" not in str(caught.value)


@pytest.mark.slow
def test_the_other_types_send_by_their_own_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command runs, and a mail goes to its server."""
    assert send(CommandSettings(name="c", command=("/bin/echo", "sent")), NOTICE) == "sent"
    monkeypatch.setattr(mail, "send", lambda receiver, notice: f"{receiver.host} has {notice.id}")
    receiver = SmtpSettings(name="m", host="mail.example.org", to=("b@example.org",))
    assert send(receiver, NOTICE) == f"mail.example.org has {NOTICE.id}"


def test_every_unusable_part_is_named(tmp_path: Path) -> None:
    """Each file of a secret by its setting, and the program of a command."""
    (tmp_path / "empty").touch()
    receiver = webhook(url_file=str(tmp_path / "none"), token_file=str(tmp_path / "empty"))
    empty, missing = sorted(unusable_parts(receiver))
    assert empty == f"receiver 'hook': token_file: {tmp_path / 'empty'}: holds no secret in one line"
    assert missing.startswith(f"receiver 'hook': url_file: {tmp_path / 'none'}: cannot read it: No such file")
    (problem,) = unusable_parts(CommandSettings(name="c", command=("no-such-program",)))
    assert problem == "receiver 'c': command: no-such-program: is no program that can be run"
    assert list(unusable_parts(CommandSettings(name="c", command=("/bin/sh", "-c", "nothing")))) == []


@pytest.mark.parametrize(("data", "said"), [(b"two\nlines", "holds no secret in one line"), (b"\xff", "is not UTF-8")])
def test_a_file_without_a_secret_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    """White space around a secret does not count."""
    path = tmp_path / "secret"
    path.write_bytes(data)
    with pytest.raises(SendError, match=f"{re.escape(str(path))}: {said}"):
        read_secret(str(path), "")
    path.write_bytes(b" secret \n")
    assert read_secret(str(path), "") == "secret"
    assert read_secret("", "") == ""


def test_an_answer_is_shown_in_one_line_of_printable_characters() -> None:
    """Its beginning: a receiver may answer anything."""
    assert shown(b"no\r\nsuch\x1b[2J  team\xff") == "no such [2J team\ufffd"
    assert len(shown(b"x" * 5_000)) == MOST_ANSWER

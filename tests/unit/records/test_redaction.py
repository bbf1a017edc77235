"""Secrets of a record: found by key and by form, and nothing else is changed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.redact import DEFAULT_KEYS
from prefork_logd.records.record import Record, make_record
from prefork_logd.records.redaction import FORMS, REDACTED, Redactor, split_pattern
from prefork_logd.records.sender import make_sender

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    "key",
    [
        *("password", "PASSWORD", "db_password", "passwordHash", "passwd", "client_secret", "secret", "token"),
        *("accessToken", "X-Auth-Token", "Authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "api_key"),
        *("apiKey", "API-KEY", "private_key", "aws_access_key", "credentials", "pwd"),
    ],
)
def test_the_usual_names_of_secrets(key: str) -> None:
    """In every spelling."""
    assert Redactor(DEFAULT_KEYS).is_secret(key)


@pytest.mark.parametrize(
    "key", ["user", "max_tokens", "token_count", "key", "cookies_accepted", "author", "", "пароль"]
)
def test_other_names(key: str) -> None:
    """A key that only resembles one stays."""
    assert not Redactor(DEFAULT_KEYS).is_secret(key)


def test_own_patterns_and_exceptions() -> None:
    """A pattern without * is the whole key; a key of `allow` stays."""
    redactor = Redactor(["iban", "card*", "*pin*"], ["shipping", "Card-Type"])
    assert [redactor.is_secret(key) for key in ("IBAN", "ibans", "card_no", "cardtype", "user_pin_2", "shipping")] == [
        *(True, False, True, False, True, False)
    ]


@pytest.mark.parametrize("pattern", ["", "*", "**", "a*b", "_-_", "12", "*34*", "x" * 65])
def test_patterns_that_cannot_be_used(pattern: str) -> None:
    """The error names the pattern."""
    with pytest.raises(ValueError, match=r"has|longer"):
        split_pattern(pattern)


def test_values_at_any_depth() -> None:
    """The value goes, whatever it is; null, true and false stay, and the client's own dict is not changed."""
    inner = {"token": {"a": 1}, "n": 1, "password": None, "secret": False}
    extra = {"a": [inner, {"b": {"pwd": 5}}], "cookie": [1, 2], "plain": "x"}
    record = Record(created=1.0, extra=extra)
    assert Redactor(DEFAULT_KEYS).redact(record)
    shown = {"token": REDACTED, "n": 1, "password": None, "secret": False}
    assert record.extra == {"a": [shown, {"b": {"pwd": REDACTED}}], "cookie": REDACTED, "plain": "x"}
    assert inner["token"] == {"a": 1}
    untouched = Record(created=1.0, extra={"a": [{"b": 1}]})
    assert not Redactor(DEFAULT_KEYS).redact(untouched)


@pytest.mark.parametrize("field", ["msg", "message", "name", "funcName", "exc_text"])
@pytest.mark.parametrize("wrap", [lambda secret: secret, lambda secret: ["x", secret]], ids=["dict", "list"])
def test_a_field_that_holds_the_json_of_a_value_has_no_secret_of_it(
    field: str, wrap: Callable[[object], object]
) -> None:
    """A service may log a dict as its message: neither the text nor the original in `extra` shows the password."""
    record = make_record({field: wrap({"password": "hunter2", "user": "me"})}, "peer", 1.0)
    assert Redactor(DEFAULT_KEYS).redact(record)
    shown = wrap({"password": REDACTED, "user": "me"})
    assert record.extra == {field: shown}
    name = "message" if field == "msg" else field
    assert json.loads(getattr(record, name)) == shown


def test_a_client_s_own_attribute_changes_no_field() -> None:
    """One with the name of a field, of another object; and an original under another key is found all the same."""
    record = make_record({"msg": "login", "name": "shop"}, "peer", 1.0)
    record.extra = {"msg": {"password": "x"}, "name": {"password": "y"}}
    assert Redactor(DEFAULT_KEYS).redact(record)
    assert (record.message, record.name) == ("login", "shop")
    record = make_record({"msg": {"password": "hunter2"}}, "peer", 1.0)
    record.extra = {"msg": 1, "msg_": record.extra["msg"]}
    assert Redactor(DEFAULT_KEYS).redact(record)
    assert "hunter2" not in (record.message or "")


def test_json_that_was_not_read_has_no_secret_either() -> None:
    """In `extra` and in the message; by keys only."""
    text = '{"password":"hunter2","n":1}'
    record = Record(created=1.0, message=text, extra={"a": [text], "b": "[1]"})
    assert Redactor(DEFAULT_KEYS).redact_unread(record)
    shown = f'{{"password":"{REDACTED}","n":1}}'
    assert (record.message, record.extra) == (shown, {"a": [shown], "b": "[1]"})
    assert not Redactor(DEFAULT_KEYS).redact_unread(Record(created=1.0, message="[1]", extra={"a": text[1:]}))
    assert not Redactor().redact_unread(Record(created=1.0, message=text))


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


@pytest.mark.parametrize(
    ("form", "text", "shown"),
    [
        ("bearer", "Authorization: Bearer abc.DEF-123= x", f"Authorization: Bearer {REDACTED} x"),
        ("bearer", "basic   dXNlcjpwYXNz", f"basic   {REDACTED}"),
        ("bearer", "the bearer came, basic needs", "the bearer came, basic needs"),
        ("card", "paid with 4111 1111 1111 1111.", f"paid with {REDACTED}."),
        ("card", "4111-1111-1111-1111 2026", f"{REDACTED} 2026"),
        ("card", "5500005555555559", REDACTED),
        ("card", "4111 1111 1111 1112", "4111 1111 1111 1112"),
        (
            "card",
            "at 1795404245125 ms, order 4111111111111111000000000",
            "at 1795404245125 ms, order 4111111111111111000000000",
        ),
        ("jwt", f"token={JWT};", f"token={REDACTED};"),
        ("jwt", "eyJ.a.b eyJabcdefg.short.x", "eyJ.a.b eyJabcdefg.short.x"),
        (
            "url-password",
            "postgresql://u:p:w@db/x and http://a/b:c@d",
            f"postgresql://u:{REDACTED}@db/x and http://a/b:c@d",
        ),
        ("url-password", "redis://:geheim@h", f"redis://:{REDACTED}@h"),
        ("url-password", "pg://u:a@h1,v:b@h2:1,[::1]/db", f"pg://u:{REDACTED}@h1,v:{REDACTED}@h2:1,[::1]/db"),
        ("url-password", "pg://u@[::1]:5,v:b,c@h2 x:y@z", f"pg://u@[::1]:5,v:{REDACTED}@h2 x:y@z"),
        ("url-password", "pg://u:a@b@h1,v:c@h2", f"pg://u:{REDACTED}@h1,v:{REDACTED}@h2"),
        ("url-password", "pg://h1:1,u:a@h2", f"pg://h1:{REDACTED}@h2"),
        ("url-password", "http://u@h and http://u:@h", "http://u@h and http://u:@h"),
        ("url-password", '"http://u:a@h","x":"y@z"', f'"http://u:{REDACTED}@h","x":"y@z"'),
    ],
)
def test_forms(form: str, text: str, shown: str) -> None:
    """In the message, the traceback, the stack and the texts of extra alike."""
    redactor = Redactor((), (), [form])
    record = Record(created=1.0, message=text, exc_text=text, stack_info=text, extra={"a": [text, {"b": text}], "n": 1})
    assert redactor.redact(record) == (text != shown)
    assert (record.message, record.exc_text, record.stack_info) == (shown, shown, shown)
    assert record.extra == {"a": [shown, {"b": shown}], "n": 1}


@pytest.mark.parametrize("form", sorted(FORMS))
@pytest.mark.parametrize(
    "seed",
    [
        "eyJ",
        "eyJ.",
        "eyJaaaaaaaaaa.",
        "bearer ",
        "bearer",
        " ",
        "4",
        "4 ",
        "4-",
        "://",
        "://a:",
        "a.",
        "@",
        "://a:b",
        "://@",
        "://a:b@c,",
        "a:b@c,",
    ],
)
def test_forms_take_linear_time(form: str, seed: str) -> None:
    """Eight times the text takes about eight times as long: a client chooses it."""

    def least_s(count: int) -> float:
        text = seed * (count // len(seed))
        took = []
        for _ in range(3):
            began = time.process_time()
            FORMS[form](text)
            took.append(time.process_time() - began)
        return min(took)

    assert least_s(400_000) < 40 * max(least_s(50_000), 0.0005)


def test_what_our_handler_adds() -> None:
    """Exceptions, the template, and the fields of a sender are no way around the rules."""
    redactor = Redactor(DEFAULT_KEYS, values=["bearer"])
    record = Record(created=1.0, msg="bearer 0123456789 %s", exception=[{"type": "E", "password": "x"}])
    assert redactor.redact(record)
    assert record.msg == f"bearer {REDACTED} %s"
    assert record.exception == [{"type": "E", "password": REDACTED}]
    shown = redactor.redact_sender(make_sender("h", "shop", fields={"api_key": "x", "n": 1}, peer_name="web-7"))
    assert shown[:6] == ("h", "shop", "", "", "web-7", {"api_key": REDACTED, "n": 1})
    sender = make_sender("h", fields={"n": 1})
    assert redactor.redact_sender(sender) is sender

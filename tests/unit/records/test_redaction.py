"""Secrets of a record: found by key and by form, and nothing else is changed."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from prefork_logd.config.redact import DEFAULT_KEYS
from prefork_logd.records.record import Record, make_record
from prefork_logd.records.redacted import REDACTED
from prefork_logd.records.redaction import Redactor, split_pattern
from prefork_logd.records.secret_forms import FORMS, SHORTEST
from prefork_logd.records.sender import make_sender

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@pytest.mark.parametrize(
    "key",
    [
        *("password", "PASSWORD", "db_password", "passwordHash", "passwd", "client_secret", "secret", "token"),
        *("accessToken", "X-Auth-Token", "Authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "api_key"),
        *("apiKey", "API-KEY", "private_key", "aws_access_key", "credentials", "pwd", "cookies", "api_keys", "secrets"),
        *("\ufeffpwd", "pass\u200bword", "api\u00ad-\u2060key", "\u200cjwt\u200d"),
        *("token1", "API_KEY_2", "client-secret-20261130", "token (bytes)", "jwt", "passcode"),
    ],
)
def test_the_usual_names_of_secrets(key: str) -> None:
    """In every spelling."""
    assert Redactor(DEFAULT_KEYS).is_secret(key)


@pytest.mark.parametrize(
    "key",
    ["user", "max_tokens", "token_count", "key", "cookies_accepted", "author", "", "пароль", "jwt_count", "token (x"],
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


def test_a_field_that_holds_the_json_of_a_value_may_have_secrets_by_form_too() -> None:
    """Both kinds are replaced, in the text and in the original."""
    value = [{"password": "hunter2", "auth": "Bearer abcdefghij"}]
    record = make_record({"msg": value}, "peer", 1.0)
    assert Redactor(DEFAULT_KEYS, (), ["bearer"]).redact(record)
    shown = [{"password": REDACTED, "auth": f"Bearer {REDACTED}"}]
    assert (json.loads(record.message or ""), record.extra) == (shown, {"msg": shown})


@pytest.mark.parametrize("field", ["name", "processName", "threadName", "taskName"])
def test_names_are_searched_by_form(field: str) -> None:
    """Services choose the names of loggers, processes, threads and tasks; those of files and functions are code."""
    record = make_record({"msg": "m", field: "fetch redis://u:geheim@h"}, "peer", 1.0)
    assert Redactor((), (), ["url-password"]).redact(record)
    assert getattr(record, field) == f"fetch redis://u:{REDACTED}@h"


@pytest.mark.parametrize("form", sorted(SHORTEST))
def test_texts_too_short_for_a_form_are_passed_over(form: str) -> None:
    """The shortest secrets are found, as values, keys and fields."""
    text = {"private-key": f"{'a' * 64}-----END PRIVATE KEY-----", "provider-token": "AKIAIOSFODNN7EXAMPLE"}[form]
    assert len(text) == SHORTEST[form]
    record = Record(created=1.0, message=text, extra={"a": [text], text: 1, "n": "short"})
    redactor = Redactor((), (), [form])
    assert redactor.redact(record)
    shown = FORMS[form](text, redactor.is_secret)
    assert shown != text
    assert (record.message, record.extra) == (shown, {"a": [shown], shown: 1, "n": "short"})


def test_a_client_s_own_attribute_changes_no_field() -> None:
    """One with the name of a field, of another object; and an original under another key is found all the same."""
    record = make_record({"msg": "login", "name": "shop"}, "peer", 1.0)
    record.extra = {"msg": {"password": "x"}, "name": {"password": "y"}}
    assert Redactor(DEFAULT_KEYS).redact(record)
    assert (record.message, record.name) == ("login", "shop")
    record = make_record({"msg": "7", "name": "[1]", "extra": {"token": 7, "pwd": [1]}}, "peer", 1.0)
    assert Redactor(DEFAULT_KEYS).redact(record)
    assert (record.message, record.name) == ("7", "[1]")
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


HEADERS = [["host", "shop"], ["authorization", "geheim"], ["cookie", None]]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (HEADERS, [["host", "shop"], ["authorization", REDACTED], ["cookie", None]]),
        ([["token", {"a": 1}]], [["token", REDACTED]]),
        ([["token", "x"], "y"], [["token", "x"], "y"]),
        (["password", "token"], ["password", "token"]),
        ([["token", "x", 1]], [["token", "x", 1]]),
        ({"name": "Cookie", "value": "geheim"}, {"name": "Cookie", "value": REDACTED}),
        ({"key": "password", "value": {"stringValue": "geheim"}}, {"key": "password", "value": REDACTED}),
        ({"name": "shop", "key": 1, "value": 2}, {"name": "shop", "key": 1, "value": 2}),
        ({"name": "token", "value": None}, {"name": "token", "value": None}),
        ({"Name": "Set-Cookie", "Value": "geheim"}, {"Name": "Set-Cookie", "Value": REDACTED}),
        ({"VALUE": 1, "KEY": "token", "value": True}, {"VALUE": REDACTED, "KEY": "token", "value": True}),
        ({"header": "Cookie", "value": "geheim"}, {"header": "Cookie", "value": REDACTED}),
        ({"headers": "Cookie", "values": "x", "value": 1}, {"headers": "Cookie", "values": "x", "value": 1}),
        ({"\u212aey": "Cookie", "value": 1}, {"\u212aey": "Cookie", "value": 1}),
    ],
)
def test_a_name_beside_its_value(value: object, shown: object) -> None:
    """Headers as pairs (ASGI), and as objects with a name and a value (HAR, OpenTelemetry), at any depth."""
    record = Record(created=1.0, extra={"a": [{"b": value}]})
    assert Redactor(DEFAULT_KEYS).redact(record) == (value != shown)
    assert record.extra == {"a": [{"b": shown}]}
    assert Redactor().redact_value(value) == (value, False)


def test_extra_itself_may_be_a_name_and_a_value() -> None:
    """As in `extra={"key": ..., "value": ...}`."""
    record = Record(created=1.0, extra={"key": "api_token", "value": "geheim"})
    assert Redactor(DEFAULT_KEYS).redact(record)
    assert record.extra == {"key": "api_token", "value": REDACTED}


def test_a_key_may_have_the_form_of_a_secret() -> None:
    """No value is lost where two keys become the same text."""
    extra = {"4111111111111111": 1, "5500005555555559": 2, REDACTED: 3, "of": {"http://u:pw@h": 4}}
    record = Record(created=1.0, extra=extra)
    assert Redactor((), (), ["card", "url-password"]).redact(record)
    shown = {REDACTED: 1, f"{REDACTED} (2)": 2, f"{REDACTED} (3)": 3, "of": {f"http://u:{REDACTED}@h": 4}}
    assert record.extra == shown
    many = {f"Bearer {number:08}": number for number in range(20_000)}
    assert len(Redactor((), (), ["bearer"]).redact_value(many)[0]) == len(many)


def test_integers_may_be_cards() -> None:
    """Those with 13 to 16 digits; longer ones are ids."""
    extra = {"a": 4111111111111111, "b": [4111111111111112, 4000000000000000006, True], "c": 1795404245125}
    record = Record(created=1.0, extra=extra)
    assert Redactor((), (), ["card"]).redact(record)
    assert record.extra == {**extra, "a": REDACTED}


def test_a_named_value_is_found_by_the_rules_of_keys() -> None:
    """Own patterns and exceptions hold in texts, too."""
    redactor = Redactor(["iban", "*token"], ["csrf_token"], ["key-value", "bearer"])
    record = Record(created=1.0, message="IBAN=1 csrf_token=2 token=3", exc_text="X-Token: Bearer 0123456789 rest")
    assert redactor.redact(record)
    assert record.message == f"IBAN={REDACTED} csrf_token=2 token={REDACTED}"
    assert record.exc_text == f"X-Token: {REDACTED} rest"


def test_an_argument_behind_an_option_is_found_in_lists_too() -> None:
    """As subprocess has commands; another option is not a value. Without the form nothing is searched."""
    command = [
        "run",
        "--db-password",
        "geheim",
        "--pin",
        7,
        "--token",
        "--jwt",
        5,
        "--pwd",
        None,
        "--token",
        ["x"],
        "--pwd",
    ]
    shown = [*command[:2], REDACTED, "--pin", 7, "--token", "--jwt", REDACTED, *command[8:]]
    assert Redactor(DEFAULT_KEYS, (), ["key-value"]).redact_value({"argv": command}) == ({"argv": shown}, True)
    assert Redactor(DEFAULT_KEYS, (), ["bearer"]).redact_value(command) == (command, False)


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


def test_many_patterns_cost_little_more_than_a_few() -> None:
    """A client may send thousands of names that never came before."""
    names = [f"user_and_name_of_a_member_of_one_group_which_is_much_longer_{number}" for number in range(2_000)]

    def least_s(patterns: Sequence[str]) -> float:
        best = 1e9
        for _ in range(9):
            one = Redactor(patterns)
            start = time.thread_time()
            assert not any(one.is_secret(name) for name in names)
            best = min(best, time.thread_time() - start)
        return best

    patterns = [f"*{kind}{what}*" for kind in ("secret", "token", "cookie", "signature") for what in "abcdefghijklmnop"]
    # A loop over the patterns takes 10 times as long for all as for one.
    assert least_s(patterns) < 5 * least_s(patterns[:1])

"""Rules and receivers in a configuration file: every mistake has its line, its key and a sentence."""

from __future__ import annotations

import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.redacting import redacted_address
from prefork_logd.config.show import printable
from prefork_logd.errors import ConfigError

HOOK = '[[receiver]]\nname = "ops"\ntype = "webhook"\n'
MAIL = '[[receiver]]\nname = "m"\ntype = "smtp"\nfrom = "a@b"\nto = ["c@d"]\n'
URL = 'url = "https://x/y"\n'
RULE = '[[alert]]\nname = "r"\nsend = ["ops"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HOOK + URL + RULE + 'fro = "1m"', "alert.fro: unknown key; did you mean 'for'?"),
        (HOOK + URL + RULE + 'for = "soon"', "8: alert.for: 'soon' is not a duration"),
        (HOOK + URL + RULE + "above = -1", "alert.above: expected a whole number >= 0"),
        (HOOK + URL + RULE + 'on = "often"', 'alert.on: invalid value \'often\'; write "absence" or "count"'),
        (HOOK + URL + RULE + 'query = "level>="', "alert.query: column 1 of the query"),
        (HOOK + URL + RULE + 'by = "a b"', "alert.by: 'a b' is not a field"),
        (HOOK + URL + RULE + 'by = "extra"', "alert.by: extra is an object; name one of its keys"),
        (HOOK + URL + RULE + 'on = "new-group"\nby = "service"', 'alert.by: has no meaning for on = "new-group"'),
        (HOOK + URL + RULE + RULE, "alert[2].name: 'r' is taken by a table above"),
        (RULE, "alert.send: 'ops': there is no such receiver; configured ([[receiver]]): none"),
        (HOOK, "receiver.url: is missing"),
        ("store = []\n" + HOOK + URL + RULE, 'alert.on: "count" needs a store that can be searched'),
        (
            HOOK + URL + RULE + 'on = "new-group"\n[errors]\nenabled = false',
            'alert.on: "new-group" needs groups of errors',
        ),
        (HOOK + 'url = "hooks.example.org"', "receiver.url: is not an address"),
        (HOOK + 'url = "https://me:secret@x/"', "receiver.url: holds a password"),
        (HOOK + 'url = "https://x/ y"', "receiver.url: holds spaces"),
        (HOOK + 'url = "https://x:99999/"', "receiver.url: is not an address"),
        (HOOK + URL + 'url_file = "u"', "receiver.url: is given besides url_file"),
        (HOOK + URL + 'template = "{"', "receiver.template: is not JSON"),
        (HOOK + URL + 'form = "slack"\ntemplate = "{}"', 'receiver.template: has no meaning for form = "slack"'),
        (HOOK + 'form = "pagerduty"', "receiver.token_file: is missing"),
        (HOOK + URL + 'timeout = "5m"', "receiver.timeout: must be from a second to a minute"),
        (HOOK + URL + 'token_env = "A B"', "receiver.token_env: 'A B' is not the name of a variable"),
        (HOOK + URL + HOOK + URL, "receiver[2].name: 'ops' is taken by a table above"),
        ('[[receiver]]\nname = "x"\ntype = "pigeon"', "receiver.type: must be one of webhook, smtp, command"),
        ('receiver = "x"', "receiver: must be a list of tables; write [[receiver]] with two brackets"),
        ("receiver = [1]", "receiver: must be a table"),
        (MAIL.replace("a@b", "a"), "receiver.from: 'a' is not a mail address"),
        (MAIL.replace("c@d", "c@d\\r\\nBcc: x"), "receiver.to: "),
        (MAIL + 'user = "me"', "receiver.user: needs a password"),
        (
            MAIL + 'host = "x.y"\nsecurity = "none"\nuser = "me"\npassword_env = "P"',
            "would send the password unencrypted",
        ),
        ('[[receiver]]\nname = "c"\ntype = "command"\ncommand = ["mail"]', "is not an absolute path"),
        ('[[receiver]]\nname = "c"\ntype = "command"', "receiver.command: is missing"),
        ('[alerts]\npage_url = "logs"', "alerts.page_url: is not the address of a page"),
        ('[alerts]\ngive_up = "0s"', "alerts.give_up: must be a second or more"),
    ],
)
def test_a_mistake_is_explained(text: str, said: str) -> None:
    """At its line."""
    with pytest.raises(ConfigError) as caught:
        loads(text, "f.toml", {"state_dir": "/x"})
    assert any(said in str(problem) for problem in caught.value.problems), str(caught.value)


def test_files_of_secrets_are_in_the_state_directory() -> None:
    """Unless their paths are absolute."""
    settings = loads(HOOK + 'url_file = "hook"\ntoken_file = "/etc/token"\n', "", {"state_dir": "/x"})
    (receiver,) = settings.receiver
    assert (receiver.url_file, receiver.token_file) == ("/x/hook", "/etc/token")  # type: ignore[union-attr]


def test_an_address_that_is_a_secret_is_not_shown() -> None:
    """`check` and the page show the host alone."""
    shown = printable(loads(HOOK + 'url = "https://hooks.slack.com/services/T0/B0/secret"\n' + MAIL, "", {}))
    assert 'url = "https://hooks.slack.com/***"' in shown
    assert "T0" not in shown
    assert 'from = "a@b"' in shown
    assert redacted_address("https://x.org/") == "https://x.org"
    assert redacted_address("https://x.org?key=secret") == "https://x.org/***"


def test_bounds() -> None:
    """Of rules and of receivers."""
    text = "".join(f'[[receiver]]\nname = "c{n}"\ntype = "command"\ncommand = ["/x"]\n' for n in range(33))
    with pytest.raises(ConfigError, match="exceeds the limit of 32 of these tables"):
        loads(text, "", {"state_dir": "/x"})
    text = "".join(RULE.replace('"r"', f'"r{n}"') for n in range(201))
    with pytest.raises(ConfigError, match="exceeds the limit of 200 of these tables"):
        loads(HOOK + URL + text, "", {"state_dir": "/x"})

"""The table [metrics]: addresses of their own, which nothing else listens on."""

from __future__ import annotations

import pytest

from prefork_logd.config.changes import changes
from prefork_logd.config.load import loads
from prefork_logd.errors import ConfigError

STATE = {"state_dir": "/state"}


def test_without_an_address_there_is_none() -> None:
    assert loads("", "", STATE).metrics.bind == ()


def test_paths_are_seen_from_the_file() -> None:
    settings = loads('[metrics]\nbind = ["unix:metrics.sock", ":9100"]'.replace(":9100", "0.0.0.0:9100"), "", STATE)
    assert settings.metrics.bind[1] == "0.0.0.0:9100"
    assert settings.metrics.bind[0].endswith("/metrics.sock")
    assert settings.metrics.bind[0].startswith("unix:/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('bind = ["nowhere"]', "x.toml:2: metrics.bind: 'nowhere' is not an address"),
        ('bind = ["[::1]:1", "[::1]:1"]', "metrics.bind: lists an address twice"),
        ('bind = ["127.0.0.1:9020"]', "metrics.bind: '127.0.0.1:9020' takes records; choose another address"),
        ('bind = ["127.0.0.1:9021"]', "metrics.bind: '127.0.0.1:9021' is an address of the page"),
        ("port = 1", "metrics.port: "),
    ],
)
def test_what_cannot_be_is_named(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loads(f"[metrics]\n{text}", "x.toml", STATE)
    assert message in str(raised.value)


def test_a_picked_port_is_never_taken() -> None:
    text = '[server]\nbind = ["127.0.0.1:0"]\n[web]\nbind = ["127.0.0.1:0"]\n[metrics]\nbind = ["127.0.0.1:0"]'
    assert loads(text, "", STATE).metrics.bind == ("127.0.0.1:0",)


def test_a_running_collector_applies_a_change() -> None:
    new = loads('[metrics]\nbind = ["[::1]:9100"]', "", STATE)
    assert changes(loads("", "", STATE), new) == (["metrics.bind"], [])

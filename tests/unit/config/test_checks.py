"""The keys file, and what listeners need of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefork_logd.config.checks import load_keys, warnings
from prefork_logd.config.load import loads
from prefork_logd.config.values import MAX_KEY_ID_BYTES, MIN_KEY_BYTES
from prefork_logd.errors import ConfigError
from tests.support.settings import STATE


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"a 0123456789abcdef\n", 0o640, "chmod 600 .*belong to the collector's user"),
        (b"a short\n", 0o600, ":1: write an id"),
        (b"# nothing\n\n", 0o600, "does not hold a key"),
        (b"a 0123456789abcdef\na 0123456789abcdef\n", 0o600, ":2: this id is taken"),
        (b"a 0123456789abcdef more\n", 0o600, ":1: write an id"),
    ],
)
def test_keys_that_cannot_be_used_are_explained(tmp_path: Path, content: bytes, mode: int, said: str) -> None:
    """A secret that others could read or find is none."""
    path = tmp_path / "keys"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ValueError, match=said):
        load_keys(path)


@pytest.mark.parametrize(
    ("id_bytes", "secret_bytes", "is_valid"),
    [
        (MAX_KEY_ID_BYTES, MIN_KEY_BYTES, True),
        (MAX_KEY_ID_BYTES + 1, MIN_KEY_BYTES, False),
        (MAX_KEY_ID_BYTES, MIN_KEY_BYTES - 1, False),
    ],
)
def test_the_longest_id_and_the_shortest_secret(
    tmp_path: Path, id_bytes: int, secret_bytes: int, *, is_valid: bool
) -> None:
    """As the message about them says."""
    path = tmp_path / "keys"
    path.write_bytes(b"i" * id_bytes + b" " + b"s" * secret_bytes)
    path.chmod(0o600)
    if is_valid:
        assert load_keys(path) == {b"i" * id_bytes: b"s" * secret_bytes}
    else:
        with pytest.raises(ValueError, match=rf":1: write an id of up to {MAX_KEY_ID_BYTES} characters"):
            load_keys(path)


def test_several_keys_are_valid_at_once(tmp_path: Path) -> None:
    """A key can be replaced without a moment in which nobody is let in."""
    path = tmp_path / "keys"
    path.write_bytes(b"# rotated in May\nold 0123456789abcdef\nnew  fedcba9876543210\n")
    path.chmod(0o600)
    assert load_keys(path) == {b"old": b"0123456789abcdef", b"new": b"fedcba9876543210"}
    settings = loads(f'[server]\nbind = []\nkeys_file = "{path}"\n[[listener]]\naccept = "authenticated"', "", STATE)
    assert settings.listeners == (("127.0.0.1:9022", "authenticated"),)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('tls_cert = "a"', 'listener.tls_cert: has no effect with tls = "off"'),
        ('tls = "require"', "listener.tls_cert: is missing"),
        ('tls = "require"\ntls_cert = "a"', "listener.tls_key: is missing"),
        ('tls = "accept"\ntls_key = "a"', "listener.tls_cert: is missing"),
        ('tls = "accept"\ntls_cert = ["a", "b"]\ntls_key = "c"', "listener.tls_key: names 1 file, and tls_cert 2"),
        ('tls = "on"', 'listener.tls: invalid value \'on\'; write "accept" or "off" or "require"'),
        ('tls_ca = "a"', "listener.tls_ca: unknown key; did you mean"),
        ('tls_min_version = "1.1"', "listener.tls_min_version: invalid value"),
        ('address = "unix:/x"\ntls = "require"\ntls_cert = "a"\ntls_key = "b"', "listener.tls: is for TCP addresses"),
    ],
)
def test_tls_that_is_half_configured_is_explained(lines: str, said: str) -> None:
    """With the line of the key."""
    with pytest.raises(ConfigError) as caught:
        loads(f"[[listener]]\n{lines}\n", "file.toml", STATE)
    assert said in str(caught.value)
    assert "file.toml:" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("true", 'listener.tls: expected a string, got a boolean; write "accept" or "off" or "require"'),
        ('"on"', 'listener.tls: invalid value \'on\'; write "accept" or "off" or "require"'),
    ],
)
def test_a_value_that_cannot_be_read_is_one_problem(value: str, said: str) -> None:
    """Its default has no effect on what is said about other keys."""
    with pytest.raises(ConfigError) as caught:
        loads(f'[[listener]]\ntls = {value}\ntls_cert = "a"\ntls_key = "b"\n', "file.toml", STATE)
    assert str(caught.value) == f"file.toml:2: {said}"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[server]\nbind = "a:1"', 'server.bind: expected a list, got a string; write it in brackets, such as ["..."]'),
        ('[limits]\nmax_connections = "9"', "expected a whole number, got a string; write a number without quotes"),
        ('[alerts]\nenabled = "yes"', "expected a boolean, got a string; write true or false without quotes"),
    ],
)
def test_a_value_of_another_type_has_a_remedy(lines: str, said: str) -> None:
    """In the words of TOML."""
    with pytest.raises(ConfigError) as caught:
        loads(lines, "file.toml", STATE)
    assert str(caught.value).endswith(said)


def test_files_of_tls_are_relative_to_the_state_directory() -> None:
    """One, or a list."""
    lines = 'tls = "require"\ntls_cert = ["a", "/b"]\ntls_key = ["c", "d"]\ntls_client_ca = "e"\n'
    (listener,) = loads(f"[[listener]]\n{lines}", "", {"state_dir": "/s"}).listener
    assert listener.tls_pairs == (("/s/a", "/s/c"), ("/b", "/s/d"))
    assert listener.tls_client_ca == "/s/e"


def test_a_listener_that_lets_plain_clients_pass_its_authority_is_warned_about() -> None:
    """It may be meant, for a while."""
    lines = '[[listener]]\ntls = "accept"\ntls_cert = "a"\ntls_key = "b"\n'
    assert not [one for one in warnings(loads(lines, "", STATE)) if "listener" in one]
    (warning,) = [one for one in warnings(loads(f'{lines}tls_client_ca = "c"', "", STATE)) if "listener" in one]
    assert 'tls = "require"' in warning

"""The settings of a NATS store: usable values, values that weaken a guarantee, and files."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import msgspec
import pytest

from prefork_logd.config.stores.nats import NatsStoreSettings
from tests.support.settings import problems


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read settings as if the libraries were there, wherever these tests run."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_defaults_have_no_problem() -> None:
    """One server holds the stream, which is worth a warning."""
    settings = NatsStoreSettings()
    assert [*settings.problems()] == []
    assert [key for key, _ in settings.warnings()] == ["replicas"]
    times = settings.retain_s, settings.duplicate_window_s, settings.sync_wait_s, settings.timeout_s
    assert times == (7 * 86_400.0, 600.0, 300.0, 10.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"replicas": 2}, ["replicas"]),
        ({"replicas": 4}, ["replicas"]),
        ({"replicas": 5}, []),
        ({"retain": ""}, []),
        ({"retain": "0s"}, ["retain"]),
        ({"duplicate_window": ""}, ["duplicate_window"]),
        ({"sync_wait": "0s"}, ["sync_wait"]),
        ({"timeout": "long"}, ["timeout"]),
        ({"servers": ("nats://a", "http://b", "tls://c:1/")}, ["servers"]),
        ({"servers": ("nats://me:secret@a",)}, ["servers"]),
        ({"tls_cert_file": "a"}, ["tls_cert_file"]),
        ({"tls_key_file": "a"}, ["tls_cert_file"]),
        ({"tls_cert_file": "a", "tls_key_file": "b"}, []),
        ({"user": "me"}, ["user"]),
        ({"user": "me", "password_file": "a"}, []),
        ({"token_file": "a", "nkey_file": "b"}, ["nkey_file"]),
        ({"level": "LOUD", "replicas": 2, "timeout": "0s"}, ["level", "replicas", "timeout"]),
    ],
)
def test_every_value_that_cannot_be_used_is_named(changes: dict[str, object], expected: list[str]) -> None:
    """All at once."""
    settings = msgspec.structs.replace(NatsStoreSettings(), **changes)
    assert [key for key, _ in settings.problems()] == expected


def test_a_password_in_a_url_is_not_repeated() -> None:
    """The problem with it is printed."""
    settings = NatsStoreSettings(servers=("nats://me:secret@a",))
    assert not any("secret" in sentence for _, sentence in settings.problems())


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"replicas": 1}, ["replicas"]),
        ({"sync_wait": "119s"}, ["sync_wait"]),
        ({"sync_wait": "2m"}, []),
        ({"duplicate_window": "299s"}, ["duplicate_window"]),
        ({"duplicate_window": "300s"}, []),
    ],
)
def test_a_value_that_weakens_a_guarantee_is_warned_of(changes: dict[str, object], expected: list[str]) -> None:
    """Each on one side of its bound, and not on the other."""
    settings = msgspec.structs.replace(NatsStoreSettings(replicas=3), **changes)
    assert [*settings.problems()] == []
    assert [key for key, _ in settings.warnings()] == expected


@pytest.mark.parametrize(
    ("compress", "form", "expected"),
    [("zstd", "batch", ["type", "compress"]), ("zstd", "json", ["type"]), ("deflate", "batch", ["type"])],
)
def test_missing_libraries_are_named(
    monkeypatch: pytest.MonkeyPatch, compress: str, form: str, expected: list[str]
) -> None:
    """Those that these settings need."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    settings = msgspec.structs.replace(NatsStoreSettings(), compress=compress, format=form)
    found = dict(settings.problems())
    assert list(found) == expected
    assert all('pip install "prefork-logd[nats]"' in sentence for sentence in found.values())


def test_paths_become_absolute(tmp_path: Path) -> None:
    """In the state directory, if they are relative; the checkpoint is named after the store."""
    settings = NatsStoreSettings(user="me", password_file="secret", tls_ca_file="/etc/ca").resolved("/state")
    assert (settings.checkpoint, settings.password_file, settings.tls_ca_file) == (
        "/state/nats.window", "/state/secret", "/etc/ca",
    )  # fmt: skip
    assert [*settings.files()] == [Path("/state/nats.window")]
    assert settings.token_file == ""
    assert NatsStoreSettings(name="a").resolved("/state").checkpoint == "/state/a.window"
    assert NatsStoreSettings(checkpoint="x/y").resolved("/state").checkpoint == "/state/x/y"
    assert NatsStoreSettings(checkpoint="/z").resolved("/state").checkpoint == "/z"


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """One that is missing, and a secret that others can read; a certificate is no secret."""
    for name, mode in (("secret", 0o600), ("open", 0o644), ("cert", 0o644)):
        (tmp_path / name).write_text("x")
        (tmp_path / name).chmod(mode)
    settings = NatsStoreSettings(user="me", password_file="secret", tls_ca_file="cert").resolved(str(tmp_path))
    assert [*settings.file_problems()] == []
    settings = NatsStoreSettings(user="me", password_file="open", tls_ca_file="none").resolved(str(tmp_path))
    assert [key for key, _ in settings.file_problems()] == ["password_file", "tls_ca_file"]


@pytest.mark.parametrize("key", ["stream", "subject", "name"])
@pytest.mark.parametrize("value", ["a b", "a\\n", "a\\r\\nPUB x", "a>", "*"])
def test_a_name_is_one_word_of_the_protocol(key: str, value: str) -> None:
    """NATS separates words by blanks and commands by lines: no name may hold either, also at its end."""
    (problem,) = problems(f'[[store]]\ntype = "nats"\n{key} = "{value}"')
    assert problem.startswith(f"x.toml:3: store.{key}: ")

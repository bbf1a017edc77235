"""Users, tokens and share links are made on the command line, and the page takes them."""

from __future__ import annotations

import getpass
import grp
import pwd
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from prefork_logd.cli.main import cli
from prefork_logd.config.load import load, loads
from prefork_logd.errors import ConfigError, ProcessError
from prefork_logd.web.page_files import PageFiles
from prefork_logd.web.shares import PATH, Shares
from prefork_logd.web.tokens import Tokens
from prefork_logd.web.users import find_user
from tests.support.accounts import NEEDS_ROOT, USER, give
from tests.support.page import make_settings, seed
from tests.support.stores import line

if TYPE_CHECKING:
    from click.testing import Result

PASSWORD = "correct horse"


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    path.mkdir()
    return path


def run(state_dir: Path, *words: str, password: str = PASSWORD, code: int = 0, config: Path | None = None) -> Result:
    flags = ["--state-dir", str(state_dir), *(["--config", str(config)] if config is not None else [])]
    # The common flags may stand in front of each word, and behind all of them.
    places = [[*flags, "web", *words], ["web", *flags, *words], ["web", *words, *flags]]
    result = CliRunner().invoke(cli, places[len(words) % 3], input=f"{password}\n")
    if isinstance(result.exception, (ConfigError, ProcessError)):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def add(state_dir: Path, config: Path, *words: str, password: str = PASSWORD) -> str:
    return run(state_dir, "user", *words, "--password-stdin", config=config, password=password).output


# Users


@pytest.mark.parametrize(
    "before", ["", "# mine\n[server]\nworkers = 2 # two\n", "store = []", "[web]\nsearches = 3\n\n"]
)
def test_a_user_is_added_to_the_file(state_dir: Path, tmp_path: Path, before: str) -> None:
    """What is there stays, with its comments and its mode."""
    config = tmp_path / "x.toml"
    config.write_text(before)
    config.chmod(0o640)
    said = add(state_dir, config, "ada", "--role", "admin")
    assert "user 'ada' was added as admin" in said
    assert "prefork-logd reload" in said
    assert "chmod" not in said
    assert config.read_text().startswith(before)
    assert config.stat().st_mode & 0o777 == 0o640
    add(state_dir, config, "ben")
    users = load(config).web.user
    assert [(user.name, user.role) for user in users] == [("ada", "admin"), ("ben", "viewer")]
    assert find_user(users, "ada", PASSWORD) is users[0]
    assert find_user(users, "ada", "another") is None
    assert PASSWORD not in config.read_text()


def test_a_user_gets_another_password(state_dir: Path, tmp_path: Path) -> None:
    """The role stays; another role is a matter of the file. A link to the file stays one."""
    real, config = tmp_path / "real.toml", tmp_path / "x.toml"
    real.write_text("")
    config.symlink_to(real)
    add(state_dir, config, "ada", "--role", "admin")
    assert "user 'ada' has a new password" in add(state_dir, config, "ada", password="another one")
    assert config.is_symlink()
    (user,) = load(real).web.user
    assert user.role == "admin"
    assert find_user([user], "ada", "another one") is user
    before = real.read_text()
    with pytest.raises(ProcessError, match="has the role 'admin'"):
        add(state_dir, config, "ada", "--role", "viewer")
    assert real.read_text() == before


@pytest.mark.parametrize("before", ["web = { searches = 3 }\n", "[web]\nuser = []\n"])
def test_a_file_that_cannot_be_continued_stays(state_dir: Path, tmp_path: Path, before: str) -> None:
    """The table is printed instead."""
    config = tmp_path / "x.toml"
    config.write_text(before)
    with pytest.raises(ProcessError, match=r"by hand:\n\[\[web\.user\]\]\nname = \"ada\""):
        add(state_dir, config, "ada")
    assert config.read_text() == before


def test_a_file_with_errors_stays(state_dir: Path, tmp_path: Path) -> None:
    """It would be worse afterwards."""
    config = tmp_path / "x.toml"
    config.write_text("nonsense = 1\n")
    with pytest.raises(ConfigError, match="nonsense"):
        add(state_dir, config, "ada")
    assert config.read_text() == "nonsense = 1\n"


def test_without_a_file_the_table_is_printed(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--print`, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREFORK_LOGD_CONFIG", raising=False)
    monkeypatch.setattr("prefork_logd.config.load.SYSTEM_FILE", tmp_path / "none")
    result = run(state_dir, "user", "ada", "--password-stdin")
    assert "no configuration file" in result.stderr
    config = tmp_path / "x.toml"
    config.write_text("")
    printed = run(state_dir, "user", "ada", "--password-stdin", "--print", config=config).stdout
    assert config.read_text() == ""
    for text in (result.stdout, printed):
        (user,) = loads(text, "", {"state_dir": "/state"}).web.user
        assert find_user([user], "ada", PASSWORD) is user


def test_a_password_needs_a_terminal_or_the_flag(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would warn of itself, and read the password from anything that is standard input."""

    def ask(*_words: str, **_more: bool) -> str:
        warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=1)
        return PASSWORD

    monkeypatch.setattr("click.prompt", ask)
    config = tmp_path / "x.toml"
    config.write_text("")
    assert "--password-stdin" in run(state_dir, "user", "ada", config=config, code=2).output
    assert config.read_text() == ""


def test_bad_names_and_passwords_are_refused(state_dir: Path, tmp_path: Path) -> None:
    """Before a file is changed."""
    config = tmp_path / "x.toml"
    config.write_text("")
    assert (
        "8 characters"
        in run(state_dir, "user", "ada", "--password-stdin", config=config, password="short", code=2).output
    )
    assert "1 to 64 letters" in run(state_dir, "user", "a b", "--password-stdin", config=config, code=2).output
    assert config.read_text() == ""


def test_a_file_that_all_can_read_is_warned_about(state_dir: Path, tmp_path: Path) -> None:
    """The hash of a weak password leads to the password."""
    config = tmp_path / "x.toml"
    config.write_text("")
    config.chmod(0o644)
    assert f"do: chmod o-r {config}\n" in add(state_dir, config, "ada")


@NEEDS_ROOT
def test_the_collectors_user_can_still_read_a_file_that_is_closed_to_others(state_dir: Path, tmp_path: Path) -> None:
    """A service of its own user could not start again if its file were left to root alone."""
    config = tmp_path / "x.toml"
    config.write_text("")
    config.chmod(0o644)
    give(state_dir)
    group = grp.getgrgid(pwd.getpwnam(USER).pw_gid).gr_name
    command = f"chgrp {group} {config} && chmod g+r,o-r {config}\n"
    assert command in add(state_dir, config, "ada")
    config.write_text(f'[server]\nuser = "{USER}"\n')
    give(state_dir, "root")
    assert command in add(state_dir, config, "ada")


# Tokens


@pytest.mark.parametrize("word", ["list", "remove"])
def test_the_word_of_a_flag_names_no_token(state_dir: Path, word: str) -> None:
    """`web token list` would print a new token of that name."""
    assert f"write --{word}" in run(state_dir, "token", word, code=2).output
    assert not (state_dir / "page").exists()


def test_a_token_is_made_listed_and_removed(state_dir: Path) -> None:
    """It is shown once, and kept as a hash in a file of its owner."""
    token = run(state_dir, "token", "ci", "--role", "admin", "--expires", "1d").stdout.strip()
    forever = run(state_dir, "token", "backup").stdout.strip()
    tokens = Tokens(PageFiles(state_dir))
    found = tokens.find(token)
    assert found is not None
    assert (found.name, found.role) == ("ci", "admin")
    assert found.expires == pytest.approx(time.time() + 86_400, abs=60)
    assert tokens.find(forever).role == "viewer"
    listed = run(state_dir, "token", "--list").stdout
    assert [line.split("\t")[:2] for line in listed.splitlines()] == [["ci", "admin"], ["backup", "viewer"]]
    assert "for ever" in listed
    path = state_dir / "page" / "tokens.json"
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert "already" in run(state_dir, "token", "ci", code=2).output
    run(state_dir, "token", "ci", "--remove")
    assert tokens.find(token) is None
    assert tokens.find(forever) is not None
    assert "no token" in run(state_dir, "token", "ci", "--remove", code=1).output


@pytest.mark.parametrize(
    "words",
    [
        (), ("ci", "--list"), ("ci", "--expires", "soon"), ("ci", "--expires", "0s"), ("a/b",),
        ("--list", "--expires", "1d"), ("--list", "--remove"), ("ci", "--remove", "--role", "admin"),
    ],
)  # fmt: skip
def test_flags_of_a_token_that_make_no_sense(state_dir: Path, words: tuple[str, ...]) -> None:
    """Nothing is made."""
    run(state_dir, "token", *words, code=2)
    assert not (state_dir / "page").exists()


def test_a_collector_that_was_never_started_has_no_tokens(tmp_path: Path) -> None:
    """A wrong state directory would hide the mistake."""
    with pytest.raises(ProcessError, match="does not exist"):
        run(tmp_path / "missing", "token", "ci")


# Share links


def test_a_share_link_has_absolute_times(state_dir: Path) -> None:
    """It shows the same records tomorrow, and nothing that comes later."""
    result = run(state_dir, "share", "level>=ERROR", "--since", "2h", "--expires", "1h", "--url", "https://x.example/")
    url = result.stdout.strip()
    assert url.startswith(f"https://x.example{PATH}")
    assert "valid until" in result.stderr
    bounds = Shares(PageFiles(state_dir), 86_400).read(url.rpartition("/")[2])
    assert bounds is not None
    now = time.time()
    assert bounds.q == "level>=ERROR"
    assert float(bounds.since[1:]) == pytest.approx(now - 7200, abs=60)
    assert float(bounds.until[1:]) == pytest.approx(now, abs=60)
    assert bounds.expires == pytest.approx(now + 3600, abs=60)
    assert run(state_dir, "share").stdout.startswith(f"http://127.0.0.1:9021{PATH}")


def test_a_share_link_keeps_records_of_clocks_that_are_ahead(state_dir: Path) -> None:
    """They are there now; those that arrive later are left out, as far as the store can be searched."""
    settings = make_settings(state_dir)
    now = time.time()
    seed(settings, [line(now - 4, msg="ahead", created=now + 600)])
    url = run(state_dir, "share", "ahead", "--since", "2h").stdout.strip()
    bounds = Shares(PageFiles(state_dir), 86_400).read(url.rpartition("/")[2])
    assert bounds is not None
    assert bounds.q.startswith("(ahead) -received>=")
    assert now + 600 < float(bounds.until[1:]) < now + 601


def test_share_links_can_be_withdrawn(state_dir: Path) -> None:
    """Also from a page that runs."""
    shares = Shares(PageFiles(state_dir), 86_400)
    text, _ = shares.sign("", None, None)
    assert shares.read(text) is not None
    for words, flag in ((("level>=ERROR",), "[TEXT]"), (("--since", "1h"), "--since"), (("--url", "x"), "--url")):
        refused = run(state_dir, "share", "--withdraw-all", *words, code=2)
        assert f"{flag} is for a new link" in refused.output
        assert shares.read(text) is not None
    run(state_dir, "share", "--withdraw-all")
    assert shares.read(text) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("a:",), "column 1"),
        (("--since", "soon"), "is not a time"),
        (("--expires", "31d"), "web.share_lifetime"),
        (("a" * 4001,), "4,000 characters"),
    ],
)
def test_a_share_link_that_cannot_be(state_dir: Path, words: tuple[str, ...], said: str) -> None:
    """With the reason."""
    assert said in run(state_dir, "share", *words, code=2).output

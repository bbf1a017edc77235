"""The common flags: before and after the verb, and what they lead to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from prefork_logd.cli import main
from prefork_logd.cli.app import Flags, cli, complain, verb

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def seen() -> Iterator[list[tuple[Flags, int]]]:
    """Return what a verb named `probe` is called with; it ends with the status of its argument."""
    calls: list[tuple[Flags, int]] = []

    @verb
    @click.argument("status", type=int)
    def probe_(flags: Flags, status: int) -> int:
        """Fail as told."""
        calls.append((flags, status))
        return status

    yield calls
    del cli.commands["probe"]


def test_a_verb_has_the_common_flags_and_its_status(seen: list[tuple[Flags, int]], tmp_path: Path) -> None:
    """Flags on either side of the verb are merged; one after it replaces one before it."""
    line = ["--workers", "3", "--bind", "a:1", "--state-dir", str(tmp_path), "probe", "--bind", "b:2", "5"]
    assert CliRunner().invoke(cli, line).exit_code == 5
    ((flags, status),) = seen
    assert status == 5
    assert flags.overrides == {"workers": 3, "bind": ("b:2",), "state_dir": str(tmp_path)}


def test_relative_paths_start_at_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that of a Unix socket, for the daemon works in another directory."""
    monkeypatch.chdir(tmp_path)
    flags = Flags()
    flags.update(None, "state", ("unix:logd.sock",), None)
    assert flags.overrides == {
        "state_dir": str(tmp_path / "state"),
        "bind": (f"unix:{tmp_path}/logd.sock",),
    }


@pytest.mark.parametrize(("given", "taken"), [("4", 4), ("auto", "auto"), ("٣", "٣"), ("9" * 5000, "9" * 5000)])
def test_the_number_of_workers_is_left_to_the_settings_unless_it_is_one(given: str, taken: object) -> None:
    """A word, another script's digits or a number beyond int() get the error of the setting, not one of Python."""
    flags = Flags()
    flags.update(None, None, (), given)
    assert flags.overrides == {"workers": taken}


def test_flags_load_the_file_with_their_own_values(tmp_path: Path) -> None:
    """A flag counts more than the file."""
    file = tmp_path / "c.toml"
    file.write_text('[server]\nworkers = 2\nbind = ["127.0.0.1:0"]\n')
    flags = Flags()
    flags.update(str(file), str(tmp_path), (), "7")
    settings = flags.load()
    assert (settings.server.workers, settings.server.bind) == (7, ("127.0.0.1:0",))
    assert settings.server.state_dir == str(tmp_path)


@pytest.mark.parametrize("words", [[], ["web"]])
def test_no_line_about_a_verb_is_cut(words: list[str]) -> None:
    """On a terminal of 80 columns; click cuts what is longer, and ends it with dots."""
    done = CliRunner().invoke(main.cli, [*words, "--help"], terminal_width=80)
    _, _, verbs = done.output.partition("Commands:")
    assert verbs
    assert "..." not in verbs


def test_a_flag_of_another_action_is_refused() -> None:
    """It would have no effect; its default, which nobody wrote, is none."""
    done = CliRunner().invoke(main.cli, ["alert", "--limit", "20"])
    assert (done.exit_code, "--limit belongs to incidents" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["workers", "many"], "Invalid value for 'COUNT': 'many' is not a valid whole number."),
        (["query", "--limit", "x"], "Invalid value for '--limit': 'x' is not a valid whole number."),
        (["errors", "--limit", "0"], "Invalid value for '--limit': 0 is not in the range 1<=x<=1000000."),
    ],
)
def test_a_number_that_is_not_one_is_named(words: list[str], said: str) -> None:
    """The help has N in its place."""
    assert said in CliRunner().invoke(cli, words).output
    assert "RANGE" not in CliRunner().invoke(cli, [words[0], "--help"]).output


def test_a_complaint_names_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error."""
    complain("too much")
    assert capsys.readouterr() == ("", "prefork-logd: too much\n")


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_a_verb_shows_the_flags_that_mean_something(name: str) -> None:
    """An address to listen on belongs to the verbs that listen, and to the one that checks it."""
    shown = CliRunner().invoke(cli, [name, "--help"]).stdout
    assert ("--bind ADDR" in shown) is (name in {"run", "start", "restart", "check"})
    assert "--state-dir DIR" in shown or name == "take-over"

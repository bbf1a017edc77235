"""The verbs that read and write stores: what they print, and the status that they end with."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from prefork_logd.cli.main import cli
from prefork_logd.errors import ExitStatus, NoSuchStoreError
from tests.support.stores import NOW, line

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration with one store that keeps records for ever."""
    path = tmp_path / "c.toml"
    path.write_text(f'[server]\nstate_dir = "{tmp_path}"\n[[store]]\ntype = "parquet"\nretain = ""\n')
    return path


@pytest.fixture
def stored(config: Path, tmp_path: Path) -> Path:
    """Return the same, with ten records imported."""
    file = tmp_path / "in.jsonl"
    file.write_bytes(
        b"".join(line(NOW + number, msg=f"record {number}", levelno=20 + number % 2 * 20) for number in range(10))
    )
    done = invoke(config, "import", str(file))
    assert done.stdout == f"{file}: 10 records stored, 0 lines refused\n"
    return config


def invoke(config: Path, *words: str) -> Result:
    """Run a verb."""
    return CliRunner().invoke(cli, ["--config", str(config), *words])


def test_an_import_that_is_repeated_stores_nothing_twice(stored: Path, tmp_path: Path) -> None:
    """The lines of before are counted."""
    done = invoke(stored, "import", str(tmp_path / "in.jsonl"))
    assert (done.exit_code, done.stdout) == (
        0,
        f"{tmp_path / 'in.jsonl'}: 0 records stored, 10 were there already, 0 lines refused\n",
    )


def test_a_line_that_is_refused_is_named(config: Path, tmp_path: Path) -> None:
    """By file and line, on standard error; the rest is stored, and the status is 1."""
    file = tmp_path / "in.jsonl"
    file.write_bytes(line(NOW) + b"nonsense\n" + line(NOW + 2))
    done = invoke(config, "import", str(file))
    assert done.exit_code == 1
    assert done.stdout == f"{file}: 2 records stored, 1 line refused\n"
    assert f"prefork-logd: {file}:2: not stored: " in done.stderr


def test_what_is_not_a_file_cannot_be_imported(config: Path, tmp_path: Path) -> None:
    """A usage error, before anything is stored."""
    done = invoke(config, "import", str(tmp_path))
    assert done.exit_code == 2
    assert "is not a file" in done.output


def test_a_query_prints_records_numbers_and_bars(stored: Path) -> None:
    """Each from the same filters."""
    done = invoke(stored, "query", "--level", "ERROR", "--format", "json")
    assert [json.loads(one)["levelno"] for one in done.stdout.splitlines()] == [40] * 5
    assert invoke(stored, "query", "--level", "ERROR", "--count").stdout == "5\n"
    assert invoke(stored, "query", "--limit", "3", "--format", "csv").stdout_bytes.count(b"\r\n") == 4
    assert "10 records" in invoke(stored, "query", "--histogram").stdout


@pytest.mark.parametrize("flags", [["--since", "sometime"], ["--where", "nothing"], ["--grep", "..."]])
def test_a_filter_that_cannot_be_read_is_a_usage_error(stored: Path, flags: list[str]) -> None:
    """With its text."""
    done = invoke(stored, "query", *flags)
    assert done.exit_code == 2
    assert flags[1] in done.output


def test_a_store_that_is_not_configured(stored: Path) -> None:
    """Those that are configured are listed."""
    for verb in (["query", "--store", "x"], ["replay", "x"]):
        done = invoke(stored, *verb)
        assert isinstance(done.exception, NoSuchStoreError)
        assert done.exception.exit_status == ExitStatus.USAGE
        assert str(done.exception) == "store 'x': there is no such store; configured: parquet"


def test_without_dead_letters_there_is_nothing_to_replay(stored: Path) -> None:
    """Every store is named."""
    done = invoke(stored, "replay")
    assert (done.exit_code, done.stdout) == (0, "parquet: 0 records taken, 0 refused again\n")


def test_check_prints_the_effective_configuration(config: Path) -> None:
    """With its file."""
    done = invoke(config, "check")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"# {config}\n")
    assert 'type = "parquet"' in done.stdout


def test_check_warns_of_receivers_that_cannot_be_used(config: Path, tmp_path: Path) -> None:
    """Each file of a secret, and the program; those that are there are right."""
    secret = tmp_path / "secret"
    secret.write_text("https://example.org/x\n")
    config.write_text(
        f"""{config.read_text()}
[[receiver]]
name = "team"
type = "webhook"
url_file = "{secret}"
token_file = "{tmp_path}/none"
[[receiver]]
name = "script"
type = "command"
command = ["{tmp_path}/none"]
[[receiver]]
name = "cat"
type = "command"
command = ["{sys.executable}"]
"""
    )
    done = invoke(config, "check")
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        (
            f"warning: receiver 'team': token_file: {tmp_path}/none: cannot read it: No such file or directory; "
            "create it, or name another"
        ),
        f"warning: receiver 'script': command: {tmp_path}/none: is no program that can be run",
    ]


def test_check_warns_of_values_that_promise_less_than_they_seem_to(config: Path) -> None:
    """On standard error; the configuration is valid all the same."""
    config.write_text(config.read_text().replace('"parquet"\nretain = ""', '"nats"\nreplicas = 1'))
    done = invoke(config, "check")
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: store 'nats': ")


def test_check_warns_of_a_user_that_does_not_exist(config: Path) -> None:
    """It is a warning, because a configuration may be checked on another host than its own."""
    config.write_text(config.read_text().replace("[server]", '[server]\nuser = "nobody-of-this-name"'))
    done = invoke(config, "check")
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: server.user = 'nobody-of-this-name': this user does not exist")


def test_incidents_of_a_rule_that_does_not_exist(config: Path) -> None:
    """A mistyped name is not answered as if nothing had happened; without a name there may be no rule at all."""
    assert invoke(config, "alert", "incidents").stdout == "no incidents\n"
    done = invoke(config, "alert", "incidents", "nope")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no rule 'nope'" in done.stderr

"""Outputs and stores that would write into one file are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from prefork_logd.config.load import load, loads
from prefork_logd.config.paths import OWN_FILES
from prefork_logd.errors import ConfigError
from tests.support.settings import problems


def test_the_collectors_own_files_cannot_be_outputs() -> None:
    """Nobody's records go into the pid file."""
    for name in OWN_FILES:
        assert "own file" in problems(f'[[output]]\npath = "{name}"')[0]


@pytest.mark.parametrize("how", ["symlink", "hard link", "linked directory", "link to nothing yet", "dots"])
def test_two_outputs_with_one_file_are_refused(tmp_path: Path, how: str) -> None:
    """By whatever name: each would cut off what the other has written."""
    (tmp_path / "a").mkdir()
    first, second = tmp_path / "a" / "all.jsonl", tmp_path / "b.jsonl"
    if how != "link to nothing yet":
        first.touch()
    if how == "hard link":
        second.hardlink_to(first)
    elif how == "linked directory":
        (tmp_path / "b").symlink_to("a")
        second = tmp_path / "b" / "all.jsonl"
    elif how == "dots":
        second = tmp_path / "a" / ".." / "a" / "all.jsonl"
    else:
        second.symlink_to("a/all.jsonl")
    (said,) = problems(f'[[output]]\npath = "{first}"\n[[output]]\nlevel = "ERROR"\npath = "{second}"\n')
    assert "output[2].path: is the file of output 'all'; choose another" in said


@pytest.mark.parametrize(
    ("made", "output", "said"),
    [
        ("prefork-logd.log", "own.jsonl", "prefork-logd.log is the collector's own file"),
        ("rejected.jsonl", "own.jsonl", "rejected.jsonl is the collector's own file"),
        ("c.toml", "own.jsonl", "is the configuration file"),
        ("keys", "own.jsonl", "is server.keys_file"),
        ("dead-letters-parquet.jsonl", "own.jsonl", "holds the dead letters of store 'parquet'"),
        ("", "journal/commits.jsonl", "journal is the collector's own directory"),
        ("", "./journal", "journal is the collector's own file"),
        ("", "records/x.jsonl", "is a file of store 'parquet'"),
    ],
)
def test_an_output_is_no_other_file_of_the_collector(tmp_path: Path, made: str, output: str, said: str) -> None:
    """Not by a link either."""
    toml = f'[server]\nstate_dir = "{tmp_path}"\nkeys_file = "keys"\n[[output]]\npath = "{output}"\n'
    (tmp_path / "c.toml").write_text(toml)
    if made:
        (tmp_path / made).touch()
        (tmp_path / output).hardlink_to(tmp_path / made)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "c.toml")
    assert [said in str(problem) for problem in caught.value.problems] == [True]


def test_devices_may_be_several_outputs(tmp_path: Path) -> None:
    """A terminal or /dev/null takes lines of any number of outputs."""
    (tmp_path / "null").symlink_to("/dev/null")
    assert len(loads(f'[[output]]\npath = "/dev/null"\n[[output]]\npath = "{tmp_path}/null"\n').output) == 2


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        (["{service}.jsonl"], "lead to a file in use: rejected.jsonl is the collector's own file"),
        (["{service}/all.jsonl"], "lead to a file in use: prefork-logd.pid is the collector's own file"),
        (["dead-{service}.jsonl"], "it holds the dead letters of store 'parquet'"),
        (["records/{date}.jsonl"], "is a file of store 'parquet'"),
        (["logs/errors.jsonl", "logs/{service}.jsonl"], "is the file of output 'errors'"),
        (["logs/{service}.jsonl", "logs/errors.jsonl"], "is the file of output 'errors'"),
        (["logs/{service}.jsonl", "logs/{logger}.jsonl"], "is a file of output 'service'"),
        (["logs/{service}.jsonl", "logs/{service}/{logger}.log"], "is a file of output 'service'"),
        (["logs/{service}.jsonl", "linked/{logger}.jsonl"], "is a file of output 'service'"),
    ],
)
def test_no_value_of_a_field_leads_to_another_file(tmp_path: Path, paths: list[str], said: str) -> None:
    """A client chooses the values, so a path with fields is compared as a whole, by whatever name of a directory."""
    (tmp_path / "logs").mkdir()
    (tmp_path / "linked").symlink_to("logs")
    tables = "".join(f'[[output]]\npath = "{path}"\n' for path in paths)
    (problem,) = problems(tables, state_dir=str(tmp_path))
    assert said in problem
    assert problem.endswith("; choose another directory")


def test_paths_with_fields_that_never_meet(tmp_path: Path) -> None:
    """In directories of their own, or with names that differ."""
    paths = ["logs/{service}.jsonl", "logs/{service}.log", "logs/errors.txt", "more/{service}/{logger}-{date}.jsonl"]
    tables = "".join(f'[[output]]\npath = "{path}"\n' for path in paths)
    settings = loads(tables, overrides={"state_dir": str(tmp_path)})
    assert [output.name for output in settings.output] == ["service", "service-2", "errors", "logger-date"]
    assert [output.has_fields for output in settings.output] == [True, True, False, True]

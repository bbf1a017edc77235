"""The settings of a Parquet store: its directory, and which files are its own."""

from pathlib import Path

import pytest

from prefork_logd.config.load import loads
from prefork_logd.config.stores.parquet import ParquetStoreSettings
from prefork_logd.errors import ConfigError


def test_its_directory_is_in_state_dir():
    """And belongs to it, with all that is in it."""
    (settings,) = loads('[[store]]\ntype = "parquet"', "", {"state_dir": "/state"}).store
    assert settings.path == "/state/records"
    assert settings.own_paths() == ("/state/records",)
    assert settings.is_own_file(Path("/state/records/2026-11-29/x.parquet"))
    assert not settings.is_own_file(Path("/state/records.jsonl"))
    assert settings.retain_s == 30 * 86_400


def test_an_output_may_not_be_in_it():
    """Retention and queries would meet a foreign file."""
    toml = '[[output]]\npath = "records/x.jsonl"\n[[store]]\ntype = "parquet"'
    with pytest.raises(ConfigError, match="is a file of store 'parquet'"):
        loads(toml, "", {"state_dir": "/state"})


def test_files_are_the_directories_and_what_is_in_them(tmp_path):
    """For the change of their owner at a start as root; no link is followed."""
    assert [*ParquetStoreSettings(path=str(tmp_path / "records")).files()] == []
    day = tmp_path / "2026-11-29"
    day.mkdir()
    (day / "a.parquet").write_bytes(b"")
    (tmp_path / "positions.json").write_bytes(b"")
    (tmp_path / "other").mkdir()
    (tmp_path / "2026-11-30").symlink_to(day)
    found = [*ParquetStoreSettings(path=str(tmp_path)).files()]
    assert found == [tmp_path, day, day / "a.parquet", tmp_path / "positions.json"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('path = "a\\u0000b"', "NUL"),
        ('retain = "0s"', "longer than 0"),
        ("memory_bytes = 1000", "memory_bytes"),
        ('batch_time = "2h"', "must be 600s or less"),
    ],
)
def test_values_that_cannot_be_used(line, expected):
    """Each names its key and a remedy."""
    with pytest.raises(ConfigError, match=expected):
        loads(f'[[store]]\ntype = "parquet"\n{line}', "", {"state_dir": "/state"})


def test_the_minimum_of_free_space_is_the_collectors() -> None:
    """Unless the store has its own."""
    assert ParquetStoreSettings().with_minimum(7).min_free_bytes == 7
    assert ParquetStoreSettings(min_free_bytes=0).with_minimum(7).min_free_bytes == 0

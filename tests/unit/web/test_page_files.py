"""The page's files are for their owner only, replaced in one step, and never written through a link."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from prefork_logd.web.page_files import SECRET_BYTES, PageFiles

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def files(tmp_path: Path) -> PageFiles:
    return PageFiles(tmp_path)


def test_files_are_for_their_owner(files: PageFiles) -> None:
    """Also in a directory that an output has made before, for a service of this name."""
    files.directory.mkdir(0o755)
    assert files.read("a") == b""
    files.write("a", b"1")
    files.secret("b")
    assert stat.S_IMODE(files.directory.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files.directory.iterdir()} == {0o600}
    assert sorted(path.name for path in files.directory.iterdir()) == ["a", "b"]


def test_a_replaced_file_has_another_version(files: PageFiles) -> None:
    assert files.version("a") == (0, 0, 0)
    versions = set()
    for content in (b"1", b"2", b"2"):
        files.write("a", content)
        assert files.read("a") == content
        versions.add(files.version("a"))
    assert len(versions) == 3


def test_a_secret_is_made_once(files: PageFiles) -> None:
    """Two processes have the same; one that was damaged is made again by nobody but a new file."""
    secret = files.secret("key")
    assert len(secret) == SECRET_BYTES
    assert files.secret("key") == PageFiles(files.directory.parent).secret("key") == secret
    files.write_new("key", b"another")
    assert files.secret("key") == secret


def test_a_secret_that_is_none_is_replaced(files: PageFiles) -> None:
    """An empty key would let everybody sign."""
    files.write("key", b"short")
    secret = files.secret("key")
    assert len(secret) == SECRET_BYTES
    assert files.secret("key") == secret


def test_no_link_is_followed(files: PageFiles, tmp_path: Path) -> None:
    """It would be read as a secret, and its target replaced."""
    target = tmp_path / "target"
    target.write_bytes(b"precious")
    files.write("b", b"")
    files.path("a").symlink_to(target)
    with pytest.raises(OSError, match="link"):
        files.read("a")
    files.write("a", b"new")
    assert target.read_bytes() == b"precious"
    assert not files.path("a").is_symlink()

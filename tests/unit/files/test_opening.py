"""What may be opened, with which modes, and how a torn last line is cut."""

import errno
import os
import socket
import stat
from pathlib import Path

import pytest

from prefork_logd.files.opening import directory_mode, open_path
from prefork_logd.system import disk
from prefork_logd.system.disk import cut_torn_line


@pytest.fixture(params=[0o000, 0o022, 0o077])
def umask(request):
    """Run under each of three umasks."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def permissions(path):
    return stat.S_IMODE(Path(path).stat().st_mode)


def opened(path, mode=0o640):
    result = open_path(str(path), mode)
    os.close(result.fd)
    return result


def test_modes_do_not_depend_on_the_umask(tmp_path, umask):
    """What is configured is what the file gets; every directory made on the way can be entered by who may read."""
    result = opened(tmp_path / "a" / "b" / "c.jsonl", 0o640)
    assert permissions(tmp_path / "a" / "b" / "c.jsonl") == 0o640
    assert permissions(tmp_path / "a") == permissions(tmp_path / "a" / "b") == 0o750
    assert result.changed_directories == [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path)]


@pytest.mark.parametrize(
    ("mode", "expected"), [(0o640, 0o750), (0o600, 0o700), (0o644, 0o755), (0o666, 0o775), (0o200, 0o700)]
)
def test_a_directory_has_x_where_the_file_has_r_and_is_never_world_writable(mode, expected):
    assert directory_mode(mode) == expected


def test_the_mode_of_a_file_that_exists_is_left_alone(tmp_path):
    path = tmp_path / "a.jsonl"
    path.touch()
    path.chmod(0o604)
    assert opened(path).changed_directories == []
    assert permissions(path) == 0o604


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_to_another_place_is_followed(tmp_path, exists):
    """Even if the file, and its directory, are yet to be made."""
    target = tmp_path / "volume" / "logs" / "a.jsonl"
    if exists:
        target.parent.mkdir(parents=True)
        target.touch()
    (tmp_path / "a.jsonl").symlink_to(target)
    result = opened(tmp_path / "a.jsonl")
    assert target.stat().st_ino == result.identity.inode
    assert (tmp_path / "a.jsonl").is_symlink()


def test_directories_and_sockets_are_refused(tmp_path):
    with pytest.raises(IsADirectoryError):
        open_path(str(tmp_path), 0o640)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(tmp_path / "s"))
        with pytest.raises(OSError) as caught:
            open_path(str(tmp_path / "s"), 0o640)
    assert caught.value.errno == errno.ENXIO
    with pytest.raises(NotADirectoryError):
        open_path("/dev/null/a.jsonl", 0o640)


def test_a_fifo_is_opened_for_its_reader_only(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError, match="it has no reader"):
        open_path(str(path), 0o640)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert not opened(path).is_regular
    os.close(reader)
    assert not opened("/dev/null").is_regular


@pytest.mark.parametrize(("content", "torn_bytes"), [(b"", 0), (b"a\n", 0), (b"a\nbc", 2)])
def test_a_torn_last_line_is_cut_away(tmp_path, content, torn_bytes):
    """What is cut is counted, and not part of the length."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(content)
    result = opened(path)
    assert result.torn_bytes == torn_bytes
    assert path.read_bytes() == content[: len(content) - torn_bytes]
    assert result.length == len(content) - torn_bytes


def test_a_long_file_without_a_newline_is_none_of_ours(tmp_path, monkeypatch):
    """It is refused and kept whole, however long the search would take."""
    monkeypatch.setattr(disk, "MAX_TORN_BYTES", 100_000)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 100_001)
    with pytest.raises(OSError, match="not a log file"):
        open_path(str(path), 0o640)
    assert path.stat().st_size == 100_001
    path.write_bytes(b"\n" + b"x" * 99_999)
    with path.open("r+b") as file:
        assert cut_torn_line(file.fileno()) == 99_999


def test_no_link_is_followed_below_a_base(tmp_path: Path) -> None:
    """Whoever may write into a directory of a pattern must not lead the collector to another file."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file.jsonl").write_bytes(b"not ours\n")
    real = tmp_path / "real"
    real.mkdir()
    base = tmp_path / "base"
    base.symlink_to("real")  # The way to the base is the administrator's own.
    opened = open_path(f"{base}/shop/a.jsonl", 0o640, base=str(base))
    os.close(opened.fd)
    assert opened.is_new
    assert [Path(path).name for path in opened.changed_directories] == ["shop", "base"]
    assert (real / "shop" / "a.jsonl").stat().st_mode & 0o777 == 0o640
    assert (real / "shop").stat().st_mode & 0o777 == 0o750
    again = open_path(f"{base}/shop/a.jsonl", 0o640, base=str(base))
    os.close(again.fd)
    assert again.identity == opened.identity
    assert not again.is_new
    (real / "linked").symlink_to(secret)
    (real / "shop" / "file.jsonl").symlink_to(secret / "file.jsonl")
    (real / "shop" / "new.jsonl").symlink_to(secret / "new.jsonl")
    os.mkfifo(real / "shop" / "fifo.jsonl")
    (real / "file").touch()
    for name, number in (
        ("linked/file.jsonl", errno.ENOTDIR),
        ("shop/file.jsonl", errno.ELOOP),
        ("shop/new.jsonl", errno.ELOOP),
        ("shop/fifo.jsonl", errno.ENOTSUP),
        ("file/a.jsonl", errno.ENOTDIR),
    ):
        with pytest.raises(OSError) as error:
            open_path(f"{base}/{name}", 0o640, base=str(base))
        assert error.value.errno == number, name
    assert sorted(path.name for path in secret.iterdir()) == ["file.jsonl"]
    assert (secret / "file.jsonl").read_bytes() == b"not ours\n"


def test_a_missing_base_is_made(tmp_path: Path) -> None:
    """Also after somebody has removed it."""
    opened = open_path(f"{tmp_path}/a/b/shop/all.jsonl", 0o600, base=f"{tmp_path}/a/b")
    os.close(opened.fd)
    assert len(opened.changed_directories) == 4
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700

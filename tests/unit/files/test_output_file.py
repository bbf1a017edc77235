"""A batch is in the file whole or not at all, whatever happens to the disk or to the file's name."""

import errno
import fcntl
import logging
import os
import resource
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from prefork_logd.errors import OutputError
from prefork_logd.files import opening
from prefork_logd.files import output_file as file_module
from prefork_logd.files.output_file import OutputFile
from prefork_logd.system.libc import IOV_MAX


@pytest.fixture
def output(tmp_path):
    """Return an open file in a directory of its own."""
    file = OutputFile("all", str(tmp_path / "logs" / "all.jsonl"))
    file.open()
    yield file
    file.close()


def append(file, *lines):
    chunks = [line.encode() + b"\n" for line in lines]
    file.append(chunks, sum(map(len, chunks)))


def lines_of(path):
    return Path(path).read_text().splitlines()


def test_what_is_appended_is_there(output):
    append(output, "a", "b")
    output.append([], 0)
    output.append([bytearray(b"c"), memoryview(b""), memoryview(b"\n")], 2)
    output.sync()
    assert lines_of(output.path) == ["a", "b", "c"]
    assert output.length == 6
    assert output.error is None


def test_more_chunks_than_one_call_takes(output):
    lines = [str(number) for number in range(2 * IOV_MAX + 7)]
    append(output, *lines)
    assert lines_of(output.path) == lines


@pytest.mark.parametrize("most", [1, 2, 3, 10, 4095])
def test_short_writes_are_continued(output, monkeypatch, most):
    """The kernel may take any part of what it is given, also ending within a chunk."""
    real = os.writev

    def writev(fd, chunks):
        return real(fd, [b"".join(chunks)[:most]])

    monkeypatch.setattr(file_module.os, "writev", writev)
    lines = [str(number) * (number % 5) for number in range(50)]
    append(output, *lines)
    assert lines_of(output.path) == lines


def test_a_write_that_goes_nowhere_is_an_error(output, monkeypatch):
    monkeypatch.setattr(file_module.os, "writev", lambda fd, chunks: 0)
    with pytest.raises(OutputError):
        append(output, "a")


@pytest.mark.slow
def test_a_full_disk_leaves_no_part_of_a_batch_and_resumes_alone(small_disk):
    """The part that fitted is cut away, the state is told once each way, and the same batch fits later."""
    disk = small_disk("size=64k")
    output = OutputFile("all", str(disk / "all.jsonl"))
    output.open()
    append(output, "first")
    (disk / "filler").write_bytes(b"x" * 40_000)
    batch = [str(number) * 100 for number in range(300)]
    for _ in range(3):
        with pytest.raises(OutputError) as caught:
            append(output, *batch)
        assert caught.value.errno == errno.ENOSPC
        assert lines_of(output.path) == ["first"]
        assert output.length == 6
    assert "No space left" in output.news()
    assert output.news() is None
    (disk / "filler").unlink()
    append(output, "last")
    assert output.error is None
    assert "written again" in output.news()
    assert output.news() is None
    assert lines_of(output.path) == ["first", "last"]
    output.close()


def test_a_size_limit_leaves_no_part_of_a_batch(output):
    """EFBIG comes after a short write."""
    append(output, "first")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError) as caught:
            append(output, *["x" * 99] * 50)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG
    assert lines_of(output.path) == ["first"]
    append(output, "last")
    assert lines_of(output.path) == ["first", "last"]


def test_a_cut_that_fails_is_made_before_the_next_append(output, monkeypatch):
    real = os.writev
    append(output, "first")

    def writev(fd, chunks):
        real(fd, [b"torn"])
        raise OSError(errno.EIO, "broken")

    def ftruncate(fd, length):
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as broken:
        broken.setattr(file_module.os, "writev", writev)
        broken.setattr(file_module.os, "ftruncate", ftruncate)
        with pytest.raises(OutputError):
            append(output, "second")
        with pytest.raises(OutputError):
            append(output, "second")
        with pytest.raises(OutputError):
            output.sync()
    assert output.length == 6
    append(output, "third")
    assert lines_of(output.path) == ["first", "third"]


def test_a_torn_piece_does_not_stay_in_a_file_that_is_left(output, monkeypatch):
    """A cut still to be made is made before the descriptor is given up."""
    real = os.writev
    append(output, "first")

    def writev(fd, chunks):
        real(fd, [b"torn"])
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as broken:
        broken.setattr(file_module.os, "writev", writev)
        broken.setattr(file_module, "_cut", lambda fd, length: False)
        with pytest.raises(OutputError):
            append(output, "second")
    Path(output.path).rename(output.path + ".1")
    output.reopen()
    append(output, "second")
    assert lines_of(output.path + ".1") == ["first"]
    assert lines_of(output.path) == ["second"]


def test_a_cut_still_to_be_made_survives_reopening_the_same_file(output, monkeypatch):
    """Whole lines of a batch that failed would else be taken for stored."""
    real = os.writev
    append(output, "first")

    def writev(fd, chunks):
        real(fd, [chunks[0]])
        raise OSError(errno.EIO, "broken")

    with monkeypatch.context() as broken:
        broken.setattr(file_module.os, "writev", writev)
        broken.setattr(file_module, "_cut", lambda fd, length: False)
        with pytest.raises(OutputError):
            append(output, "second", "third")
        output.reopen()
    append(output, "second", "third")
    assert lines_of(output.path) == ["first", "second", "third"]


@pytest.mark.slow
def test_a_disk_turned_read_only_and_back(small_disk):
    """EROFS comes with opening, for a disk with open files cannot be turned: the old state returns by itself."""
    disk = small_disk("size=64k")
    output = OutputFile("all", str(disk / "all.jsonl"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    with pytest.raises(OutputError) as caught:
        output.open()
    assert caught.value.errno == errno.EROFS
    assert not output.is_open
    with pytest.raises(OutputError):
        append(output, "a")
    subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    output.open()
    append(output, "a")
    assert lines_of(output.path) == ["a"]
    assert output.error is None
    output.close()


def test_the_state_directory_is_not_made_again(tmp_path):
    """Lines go on to the open file while it is away, and after it is back. Directories in it are made."""
    home = tmp_path / "state"
    home.mkdir()
    output = OutputFile("all", str(home / "logs" / "all.jsonl"), home=str(home))
    output.open()
    append(output, "a")
    home.rename(tmp_path / "moved")
    with pytest.raises(OutputError, match="the state directory was moved or removed; put its directory back"):
        output.verify()
    append(output, "b")
    assert output.astray is not None
    assert not home.exists()
    (tmp_path / "moved").rename(home)
    output.verify()
    append(output, "c")
    assert output.astray is None
    assert lines_of(output.path) == ["a", "b", "c"]
    output.close()


@pytest.mark.slow
def test_no_inode_left(small_disk):
    disk = small_disk("size=64k,nr_inodes=4")
    output = OutputFile("all", str(disk / "logs" / "all.jsonl"))
    (disk / "one").touch()
    (disk / "two").touch()
    with pytest.raises(OutputError) as caught:
        output.open()
    assert caught.value.errno == errno.ENOSPC
    (disk / "one").unlink()
    output.open()
    append(output, "a")
    assert lines_of(output.path) == ["a"]
    output.close()


def test_rename_and_reopen_as_logrotate_does(output):
    """Lines before the reopening are in the renamed file, lines after it in the new one."""
    append(output, "a")
    Path(output.path).rename(output.path + ".1")
    append(output, "b")
    generation = output.generation
    output.reopen()
    append(output, "c")
    assert lines_of(output.path + ".1") == ["a", "b"]
    assert lines_of(output.path) == ["c"]
    assert output.generation == generation + 1


def test_copytruncate_is_survived(output):
    append(output, "a", "b")
    os.truncate(output.path, 0)
    append(output, "c")
    assert lines_of(output.path) == ["c"]
    assert output.length == 2


def test_the_old_file_stays_in_use_when_reopening_fails(output):
    append(output, "a")
    Path(output.path).rename(output.path + ".1")
    Path(output.path).mkdir()
    with pytest.raises(OutputError):
        output.reopen()
    append(output, "b")
    assert output.error is not None, "the append must not hide that the path cannot be opened"
    assert lines_of(output.path + ".1") == ["a", "b"]
    Path(output.path).rmdir()
    assert output.verify()
    assert output.error is None


def test_a_removed_directory_costs_no_line_appended_since_the_last_check(output):
    """What a removed file took after it was last seen in place is carried over to the new one."""
    append(output, "before")
    assert not output.verify()
    append(output, "lost with the file, had it been there alone")
    shutil.rmtree(Path(output.path).parent)
    append(output, "after")
    assert output.verify()
    assert lines_of(output.path) == ["lost with the file, had it been there alone", "after"]
    append(output, "then")
    assert lines_of(output.path)[-1] == "then"
    assert output.length == Path(output.path).stat().st_size
    assert not output.verify()
    output.sync()


def test_nothing_more_is_written_to_a_removed_file(output):
    """While the path cannot be made anew, appending fails rather than into a file that nobody can find."""
    append(output, "a")
    directory = Path(output.path).parent
    shutil.rmtree(directory)
    directory.touch()
    with pytest.raises(OutputError):
        output.verify()
    with pytest.raises(OutputError):
        append(output, "b")
    directory.unlink()
    append(output, "b")
    assert lines_of(output.path) == ["a", "b"]


@pytest.mark.slow
def test_carrying_over_to_a_full_disk_is_tried_again(small_disk):
    """The new file stays empty until it can take all of it."""
    disk = small_disk("size=64k")
    output = OutputFile("all", str(disk / "all.jsonl"))
    output.open()
    append(output, *["x" * 999] * 30)
    Path(output.path).unlink()
    (disk / "filler").write_bytes(b"x" * 20_000)
    with pytest.raises(OutputError):
        output.verify()
    assert Path(output.path).stat().st_size == 0
    (disk / "filler").unlink()
    append(output, "last")
    assert lines_of(output.path) == ["x" * 999] * 30 + ["last"]
    output.close()


def test_a_renamed_file_and_a_replaced_one_are_noticed(output):
    append(output, "a")
    Path(output.path).rename(output.path + ".1")
    assert output.verify()
    Path(output.path).rename(output.path + ".2")
    Path(output.path).write_text("theirs\nto")
    assert output.verify()
    assert output.torn_bytes == 2
    append(output, "b")
    assert lines_of(output.path) == ["theirs", "b"]


def test_a_replaced_link_is_noticed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).touch()
    link = tmp_path / "all.jsonl"
    link.symlink_to("one")
    output = OutputFile("all", str(link))
    output.open()
    append(output, "a")
    assert not output.verify()
    link.unlink()
    link.symlink_to("two")
    assert output.verify()
    append(output, "b")
    assert (lines_of(tmp_path / "one"), lines_of(tmp_path / "two")) == (["a"], ["b"])
    output.close()


def test_cutting_back_to_what_was_committed(output):
    """Only of the very file it is meant for, never longer than it is, never beyond the length given."""
    append(output, "a", "b", "c")
    assert output.cut_back(4, (output.identity.device, output.identity.inode)) == 2
    assert lines_of(output.path) == ["a", "b"]
    assert output.length == 4
    assert output.cut_back(100, output.identity) == 0
    assert output.cut_back(2, (output.identity.device, output.identity.inode + 1)) is None
    append(output, "d")
    assert lines_of(output.path) == ["a", "b", "d"]


def test_a_failed_sync_is_told_until_one_works(output, monkeypatch):
    def fdatasync(fd):
        raise OSError(errno.EIO, "broken")

    append(output, "a")
    with monkeypatch.context() as broken:
        broken.setattr(file_module.os, "fdatasync", fdatasync)
        with pytest.raises(OutputError):
            output.sync()
    append(output, "b")
    assert output.error.errno == errno.EIO
    output.sync()
    assert output.error is None


def test_new_names_are_synced_once(tmp_path, monkeypatch):
    """The first sync covers every directory that got a name, the next ones the file only."""
    synced = []
    monkeypatch.setattr(file_module, "sync_directory", lambda path, **_: synced.append(path))
    output = OutputFile("all", str(tmp_path / "a" / "all.jsonl"))
    output.open()
    output.sync()
    assert sorted(synced) == [str(tmp_path), str(tmp_path / "a")]
    output.sync()
    assert len(synced) == 2
    output.close()


def test_streams_are_written_and_never_cut_synced_or_verified(tmp_path):
    output = OutputFile("all", "/dev/null")
    output.open()
    append(output, "a")
    output.sync()
    assert not output.verify()
    assert output.cut_back(0, output.identity) is None
    assert output.length == 2
    output.close()

    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)
    output = OutputFile("all", fifo)
    with pytest.raises(OutputError, match="it has no reader"):
        output.open()
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    output.open()
    append(output, "a", "b")
    output.sync()
    assert os.read(reader, 100) == b"a\nb\n"
    os.close(reader)
    with pytest.raises(OutputError) as caught:
        append(output, "c")
    assert caught.value.errno == errno.EPIPE
    output.close()


def test_a_closed_file_refuses_and_can_be_opened_again(output):
    append(output, "a")
    output.close()
    output.close()
    with pytest.raises(OutputError):
        append(output, "b")
    with pytest.raises(OutputError):
        output.sync()
    assert not output.verify()
    output.open()
    append(output, "c")
    assert lines_of(output.path) == ["a", "c"]


def test_no_descriptor_left_is_survived(output):
    """EMFILE on reopening keeps the old file in use."""
    append(output, "a")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(OutputError) as caught:
            output.reopen()
        append(output, "b")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert caught.value.errno == errno.EMFILE
    assert lines_of(output.path) == ["a", "b"]


def test_a_file_has_one_writer(output, tmp_path):
    """By whatever name: a second one would cut off what the first has written, or be cut off by it."""
    append(output, "a")
    link = tmp_path / "link.jsonl"
    link.symlink_to(output.path)
    hard = tmp_path / "hard.jsonl"
    hard.hardlink_to(output.path)
    with Path(output.path).open("ab") as torn:
        torn.write(b"a line that is being written")
    for path in (output.path, str(link), str(hard)):
        other = OutputFile("other", path)
        with pytest.raises(OutputError, match="another collector, or another output, has it open"):
            other.open()
        assert not other.is_open
    assert Path(output.path).read_bytes().endswith(b"written"), "the other one's line is not cut"
    output.close()
    other.open()
    append(other, "b")
    assert lines_of(other.path) == ["a", "b"]
    other.close()


def test_the_lock_is_kept_while_the_file_is_reopened(output, tmp_path):
    """At no moment can another take it; a file that was renamed is free once the new one is open."""
    other = OutputFile("other", output.path)
    before = output.generation
    output.reopen()
    assert output.generation == before + 1
    with pytest.raises(OutputError):
        other.open()
    renamed = Path(output.path).rename(tmp_path / "renamed")
    output.reopen()
    with pytest.raises(OutputError):
        other.open()
    free = OutputFile("renamed", str(renamed))
    free.open()
    free.close()


def test_a_file_system_without_locks_is_used(tmp_path, monkeypatch):
    """There the configuration's check is all there is."""

    def lock(fd, operation, argument):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(opening.fcntl, "fcntl", lock)
    file = OutputFile("all", str(tmp_path / "all.jsonl"))
    assert file.open() == 0
    file.close()


def test_who_may_only_read_it_keeps_no_one_out(tmp_path):
    """Neither by flock(2) nor by a lock for reading; who may write to it does."""
    path = tmp_path / "all.jsonl"
    path.touch()
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_EX)
        fcntl.fcntl(reader, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_RDLCK, 0, 0, 0, 0))
        file = OutputFile("all", str(path))
        file.open()
        append(file, "a")
        file.close()
    with path.open("r+b") as writer:
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        with pytest.raises(OutputError, match="another collector"):
            file.open()
    file.open()
    with path.open("r+b") as writer, pytest.raises(BlockingIOError):
        fcntl.fcntl(writer, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
    file.close()


def _try_lock(file, kind):
    fcntl.fcntl(file, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))


def test_the_lock_is_taken_when_its_reader_has_gone(output):
    """Reopening does not forget that it lacks. Both are told once."""
    path = Path(output.path)
    output.close()
    with path.open("rb") as reader:
        _try_lock(reader, fcntl.F_RDLCK)
        output.open()
        missing = output.verify()
        assert missing.level == logging.WARNING
        assert "cannot be locked yet" in missing.text
        output.reopen()
        assert output.verify() is None
        append(output, "a")
    found = output.verify()
    assert (found.level, found.text) == (logging.INFO, f"{path}: is locked now")
    assert output.verify() is None
    with path.open("r+b") as writer, pytest.raises(BlockingIOError):
        _try_lock(writer, fcntl.F_WRLCK)


def test_a_file_that_another_collector_has_locked_meanwhile_is_left_to_it(output):
    """Lines wait; each of the two would cut off those of the other."""
    path = Path(output.path)
    output.close()
    with path.open("rb") as reader, path.open("r+b") as writer:
        _try_lock(reader, fcntl.F_RDLCK)
        output.open()
        _try_lock(reader, fcntl.F_UNLCK)
        _try_lock(writer, fcntl.F_WRLCK)
        for call in (output.verify, output.open, lambda: append(output, "a")):
            with pytest.raises(OutputError):
                call()
        assert "another collector" in str(output.error)
        assert not path.read_bytes()
    output.open()
    append(output, "a")
    assert lines_of(path) == ["a"]


def test_the_collectors_own_log_is_no_output(tmp_path, monkeypatch):
    """Descriptor 2 may lead to any file: lines of the log among records would be cut off, or cut them off."""
    path = tmp_path / "all.jsonl"
    path.touch()
    real = os.fstat
    monkeypatch.setattr(opening.os, "fstat", lambda fd: path.stat() if fd == 2 else real(fd))
    with pytest.raises(OutputError, match="the collector's own log is written to it"):
        OutputFile("all", str(path)).open()

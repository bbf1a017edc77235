"""A rotated file is replaced by its compressed form only when that is complete."""

import errno
import fcntl
import gzip
import os
import signal
import time
from pathlib import Path

import pytest
import zstandard

from prefork_logd.errors import file_reason
from prefork_logd.files import compression as compress_module
from prefork_logd.files.compression import compress, explain, start

CONTENT = b"".join(b'{"message":"line %d"}\n' % number for number in range(40_000))
READ = {"gzip": gzip.decompress, "zstd": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data)}
SUFFIX = {"gzip": ".gz", "zstd": ".zst"}


@pytest.fixture
def source(tmp_path):
    """Return a rotated file with a mode and a time of its own."""
    path = tmp_path / "all.jsonl.20261123T080000Z.000001"
    path.write_bytes(CONTENT)
    path.chmod(0o604)
    os.utime(path, ns=(1_000_000_001, 2_000_000_002))
    return path


def names(source):
    return sorted(path.name.removeprefix(source.name) for path in source.parent.iterdir())


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_content_mode_and_time_are_kept(source, method):
    compress(str(source), method, lambda: True)
    assert names(source) == [SUFFIX[method]]
    target = Path(f"{source}{SUFFIX[method]}")
    assert READ[method](target.read_bytes()) == CONTENT
    assert target.stat().st_mode & 0o777 == 0o604
    assert target.stat().st_mtime_ns == 2_000_000_002


def test_a_file_that_is_gone_is_done(tmp_path):
    compress(str(tmp_path / "gone"), "gzip", lambda: True)


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_what_was_done_but_not_removed_is_finished(source, method):
    """The crash came before the last step: the original goes once the compressed file proves to hold it."""
    compress(str(source), method, lambda: True)
    source.write_bytes(CONTENT)
    compress(str(source), method, lambda: True)
    assert names(source) == [SUFFIX[method]]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gzip", "zstd"])
@pytest.mark.parametrize(
    "damage", [lambda data: b"theirs", lambda data: data[:-30], lambda data: data[:-4], lambda data: b""]
)
def test_a_compressed_file_that_holds_something_else_is_not_overwritten(source, method, damage):
    """And the original is kept."""
    compress(str(source), method, lambda: True)
    target = Path(f"{source}{SUFFIX[method]}")
    target.write_bytes(damage(target.read_bytes()))
    found = target.read_bytes()
    source.write_bytes(CONTENT)
    with pytest.raises(FileExistsError):
        compress(str(source), method, lambda: True)
    assert (source.read_bytes(), target.read_bytes()) == (CONTENT, found)


def test_leftovers_are_started_over(source):
    Path(f"{source}.gz.tmp").write_bytes(b"half")
    compress(str(source), "gzip", lambda: True)
    assert names(source) == [".gz"]


def test_a_second_compressor_gives_up(source):
    with source.open("rb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            compress(str(source), "gzip", lambda: True)
    assert names(source) == [""]


def test_an_orphan_stops_and_keeps_the_original(source):
    answers = iter([True, True, False])
    with pytest.raises(InterruptedError):
        compress(str(source), "gzip", lambda: next(answers))
    assert names(source) == [""]


@pytest.mark.slow
def test_a_full_disk_keeps_the_original(small_disk):
    """Nothing of the attempt is left to fill it."""
    disk = small_disk("size=256k")
    source = disk / "all.jsonl.20261123T080000Z.000001"
    source.write_bytes(os.urandom(200_000))
    pid = start(str(source), "gzip")
    _, status = os.waitpid(pid, 0)
    assert explain(status) == file_reason(errno.ENOSPC)
    assert names(source) == [""]


@pytest.mark.slow
def test_the_child_succeeds_and_is_no_part_of_its_parent(source, monkeypatch):
    """It has a title of its own, is nice, holds none of the parent's descriptors, and has no handler of its."""
    report_reader, report_writer = os.pipe()
    os.dup2(report_writer, 2000, inheritable=True)

    def pieces(reader, go_on):
        seen = Path("/proc/self/cmdline").read_bytes().replace(b"\0", b" ").strip() + b"|"
        seen += b"%d|" % os.nice(0)
        seen += b",".join(path.name.encode() for path in Path("/proc/self/fd").iterdir()) + b"|"
        seen += b"%d" % (signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
        Path(f"{source}.seen").write_bytes(seen)
        yield reader.read()

    monkeypatch.setattr(compress_module, "_pieces", pieces)
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        _, status = os.waitpid(start(str(source), "gzip"), 0)
    finally:
        signal.signal(signal.SIGTERM, before)
        for fd in (report_reader, report_writer, 2000):
            os.close(fd)
    assert explain(status) is None
    title, niceness, descriptors, default = Path(f"{source}.seen").read_bytes().split(b"|")
    assert title == b"prefork-logd: compressor"
    assert int(niceness) == 19
    assert {int(fd) for fd in descriptors.split(b",")} <= {0, 1, 2, 3, 4, 5}
    assert default == b"1"
    assert gzip.decompress(Path(f"{source}.gz").read_bytes()) == CONTENT
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


@pytest.mark.slow
def test_a_child_that_is_killed_leaves_the_original(source, monkeypatch):
    def pieces(reader, go_on):
        yield reader.read(100_000)
        Path(f"{source}.began").touch()
        signal.pause()

    monkeypatch.setattr(compress_module, "_pieces", pieces)
    pid = start(str(source), "gzip")
    deadline = time.monotonic() + 10
    while not Path(f"{source}.began").exists():
        assert time.monotonic() < deadline
        os.sched_yield()
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert explain(status) == "its compressor was ended by signal 9"
    assert names(source) == ["", ".began", ".gz.tmp"]
    assert source.read_bytes() == CONTENT
    monkeypatch.undo()
    compress(str(source), "gzip", lambda: True)
    assert names(source) == [".began", ".gz"]


@pytest.mark.slow
def test_an_error_that_nobody_expects_is_told(source, monkeypatch):
    def pieces(reader, go_on):
        raise ArithmeticError

    monkeypatch.setattr(compress_module, "_pieces", pieces)
    _, status = os.waitpid(start(str(source), "gzip"), 0)
    assert explain(status) == "its compressor failed unexpectedly"
    assert source.read_bytes() == CONTENT

"""Whatever happens in the middle of a rotation, each line is in exactly one file, whole and in order."""

import contextlib
import ctypes
import errno
import gzip
import itertools
import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.errors import OutputError, file_reason
from prefork_logd.files import compression, rotated_files
from prefork_logd.files.output_file import OutputFile
from prefork_logd.files.rotation import LAST_RETRY_S, Rotation, Step

READ = {
    "": bytes,
    ".gz": gzip.decompress,
    ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}
WALL_S = 1_795_420_800.0
LINE_BYTES = 8
REAL_WRITE = os.write


class Bench:
    """One output, its rotation, and a clock that is moved by hand."""

    def __init__(self, path, **keys):
        self.path = str(path)
        self.settings = OutputSettings(path=self.path, **keys)
        self.now_s = 1000.0
        self.wall_s = WALL_S
        self.number = 0
        self.events, self.levels = [], {}
        self.begin()

    def begin(self):
        """Be a new process."""
        self.file = OutputFile("all", self.path)
        self.file.open()
        self.rotation = Rotation(self.settings, self.file, lambda: self.wall_s)

    def append(self, count=1):
        lines = [b"%07d\n" % number for number in range(self.number, self.number + count)]
        self.file.append(lines, LINE_BYTES * count)
        self.number += count

    def turn(self):
        """Do what the writer does after each batch."""
        if self.rotation.due(self.now_s):
            self.note(self.rotation.advance(self.now_s))

    def note(self, events):
        """Keep what would be logged."""
        self.events += [event.text for event in events]
        self.levels |= {event.text: event.level for event in events}

    def settle(self):
        """Let time pass until there is nothing more to do but to wait for the file to become old."""
        for _ in range(100):
            self.pass_time(1)
            if self.rotation.next_deadline_s > self.now_s + LAST_RETRY_S:
                return
        pytest.fail("never comes to rest")

    def pass_time(self, turns):
        """Let so many turns pass, a minute each; a compressor is waited for."""
        for _ in range(turns):
            self.turn()
            pid = self.rotation.compressor_pid
            if pid is not None:
                _, status = os.waitpid(pid, 0)
                self.note(self.rotation.reap(pid, status, self.now_s))
            self.now_s += LAST_RETRY_S + 1

    def end(self):
        self.rotation.close()
        self.file.close()

    def rotated(self):
        return rotated_files.find(os.path.realpath(self.path))[0]

    def suffixes(self):
        return [sibling.suffix for sibling in self.rotated()]

    def stored(self):
        """Every stored line number, rotated files first; one that is there twice (a crash before its removal) once."""
        once = {sibling.sequence: sibling for sibling in reversed(self.rotated())}
        content = b"".join(READ[once[n].suffix](Path(once[n].path).read_bytes()) for n in sorted(once))
        content += Path(self.path).read_bytes() if Path(self.path).exists() else b""
        lines = content.split(b"\n")
        assert lines.pop() == b"", "a torn line"
        assert {len(line) for line in lines} <= {LINE_BYTES - 1}
        return [int(line) for line in lines]


@pytest.fixture
def bench(tmp_path):
    """Return a function that makes a Bench in a directory of its own."""
    made = []

    def make(path=tmp_path / "logs" / "all.jsonl", **keys):
        made.append(Bench(path, **keys))
        return made[-1]

    yield make
    for each in made:
        each.end()


def failing(number):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


# --- when


def test_without_settings_there_is_nothing_to_do(bench):
    b = bench()
    b.append(1000)
    assert not b.rotation.due(math.inf)
    assert b.rotation.advance(b.now_s) == []
    assert b.rotation.next_deadline_s == math.inf


def test_by_size(bench):
    """As soon as the file has the size, and each rotation says where the lines are."""
    b = bench(rotate_bytes=5 * LINE_BYTES)
    for _ in range(17):
        b.append()
        b.turn()
    assert [sibling.nbytes for sibling in b.rotated()] == [5 * LINE_BYTES] * 3
    assert b.file.length == 2 * LINE_BYTES
    assert b.stored() == list(range(17))
    assert b.events == [f"{b.path}: rotated to {sibling.path}" for sibling in b.rotated()]
    assert Path(b.rotated()[0].path).name == "all.jsonl.20261123T080000Z.000001"


def test_by_time_counts_from_the_first_line(bench):
    """An empty file does not age, and is never rotated."""
    b = bench(rotate_every="1h")
    b.turn()
    assert b.rotation.next_deadline_s == math.inf
    b.now_s += 10_000
    b.turn()
    b.append()
    b.turn()
    assert b.rotation.next_deadline_s == b.now_s + 3600
    b.now_s += 3599
    b.append()
    b.turn()
    assert b.rotated() == []
    b.now_s += 1
    assert b.rotation.due(b.now_s)
    b.turn()
    assert len(b.rotated()) == 1
    b.settle()
    assert len(b.rotated()) == 1
    assert b.stored() == [0, 1]


def test_the_age_survives_a_restart(bench):
    """A process that is restarted more often than it would rotate still rotates, by the file's own creation time."""
    b = bench(rotate_every="1h")
    b.append()
    b.turn()
    b.end()
    b.wall_s = time.time() + 3000
    b.begin()
    b.turn()
    assert b.rotation.next_deadline_s == pytest.approx(b.now_s + 600, abs=30)
    b.end()
    b.wall_s = time.time() + 4000
    b.begin()
    b.turn()
    b.turn()
    assert len(b.rotated()) == 1


@pytest.mark.parametrize("offset_s", [-1e8, 1e8])
def test_a_wall_clock_that_jumps_rotates_at_most_once_too_early_and_waits_at_most_one_period(bench, offset_s):
    b = bench(rotate_every="1h")
    b.append()
    b.turn()
    b.wall_s += offset_s
    b.now_s += 3599
    b.turn()
    assert b.rotated() == []
    b.end()
    b.begin()
    b.append()
    b.settle()
    b.append()
    b.turn()
    b.turn()
    assert len(b.rotated()) == (1 if offset_s > 0 else 0)
    assert b.now_s < b.rotation.next_deadline_s <= b.now_s + 3600
    assert b.stored() == [0, 1, 2]


@pytest.mark.parametrize("step_s", [-3600, 0, 86_400 * 365])
def test_names_never_repeat_whatever_the_clock_does(bench, step_s):
    b = bench(rotate_bytes=1, keep=0)
    for _ in range(12):
        b.append()
        b.turn()
        b.wall_s += step_s
    assert len(b.rotated()) == 12
    assert b.stored() == list(range(12))


def test_a_stream_is_never_rotated(bench):
    b = bench("/dev/null", rotate_bytes=1, rotate_every="1s")
    b.append()
    assert not b.rotation.due(math.inf)
    assert b.rotation.advance(b.now_s) == []


def test_the_link_stays_and_the_file_is_rotated_where_it_is(bench, tmp_path):
    link = tmp_path / "all.jsonl"
    link.symlink_to(tmp_path / "volume" / "data.jsonl")
    b = bench(link, rotate_bytes=1)
    b.append()
    b.turn()
    assert link.is_symlink()
    assert [Path(sibling.path).name for sibling in b.rotated()] == ["data.jsonl.20261123T080000Z.000001"]
    assert list(tmp_path.glob("all.jsonl.*")) == []


# --- failures in the middle


FAILURES = [
    ("fdatasync", Step.SYNC),
    ("rename", Step.SYNC),
    ("rename unlink", Step.SYNC),
    ("fsync", Step.SETTLE),
]


@pytest.mark.slow
@pytest.mark.parametrize(("calls", "step"), FAILURES)
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_a_step_that_fails_is_tried_again_and_told_once(bench, monkeypatch, calls, step, number):
    """Lines go on being stored meanwhile; the retries become rarer; the end of the trouble is told."""
    b = bench(rotate_bytes=3 * LINE_BYTES)
    b.turn()
    b.file.sync()
    tries = itertools.count()
    fail = failing(number)
    with monkeypatch.context() as broken:
        for call in calls.split():
            broken.setattr(os, call, lambda *args, **kwargs: (next(tries), fail()))
        for _ in range(40):
            b.append()
            b.turn()
            b.now_s += 1
        assert b.rotation.step is step
    told = [event for event in b.events if "rotated, b" in event]
    assert len(told) == 1
    assert told[0].startswith(f"{b.path}: ")
    assert file_reason(number) in told[0]
    assert step.name not in told[0]
    assert b.levels[told[0]] == logging.WARNING
    assert next(tries) < 8 * 3  # a retry makes up to three of these calls
    b.settle()
    assert b.levels[f"{b.path}: rotates again"] == logging.WARNING
    assert {b.levels[event] for event in b.events if "rotated to" in event} == {logging.INFO}
    assert b.rotation.step is Step.WAIT
    assert b.stored() == list(range(40))
    assert all(sibling.nbytes for sibling in b.rotated()), "a reserved name was left behind"


@pytest.mark.slow
@pytest.mark.parametrize("method", ["none", "gzip"])
def test_lines_go_to_the_moved_file_until_a_new_one_can_be_opened(bench, monkeypatch, method):
    """The moved file is neither compressed nor removed while it is written to."""
    b = bench(rotate_bytes=3 * LINE_BYTES, compress=method, keep_bytes=1)
    with monkeypatch.context() as broken:
        broken.setattr(b.file, "reopen", failing(errno.EMFILE))
        b.append(3)
        for _ in range(7):
            b.turn()
            b.append()
            b.now_s += 1
            assert b.rotation.compressor_pid is None
        assert b.rotation.step is Step.REOPEN
        assert not Path(b.path).exists()
    assert b.stored() == list(range(10))
    b.settle()
    b.append()
    assert Path(b.path).read_bytes() == b"0000010\n"
    assert b.suffixes() == [], "keep_bytes holds once the file is compressed"


@pytest.mark.slow
@pytest.mark.parametrize("step", [Step.SYNC, Step.MOVE, Step.REOPEN, Step.SETTLE])
@pytest.mark.parametrize("act", ["reopen", "rename", "remove"])
def test_others_may_act_between_any_two_steps(bench, monkeypatch, step, act):
    """A SIGHUP, logrotate's rename with it, or a removed directory: no crash, and nothing lost but what was removed."""
    b = bench(rotate_bytes=3 * LINE_BYTES)
    b.turn()
    real = b.rotation._take_step
    acted = []

    def take_step():
        if b.rotation.step is step and not acted:
            acted.append(step)
            if act == "reopen":
                b.file.reopen()
            elif act == "rename":
                if Path(b.path).exists():
                    Path(b.path).rename(b.path + ".theirs")
                b.file.reopen()
            else:
                shutil.rmtree(Path(b.path).parent)
        return real()

    monkeypatch.setattr(b.rotation, "_take_step", take_step)
    for _ in range(10):
        b.append()
        b.turn()
        b.file.verify()
    b.settle()
    assert acted
    stored = b.stored()
    if Path(b.path + ".theirs").exists():
        stored = sorted(stored + [int(line) for line in Path(b.path + ".theirs").read_bytes().split()])
    if act == "remove":
        assert stored == list(range(stored[0], 10))
    else:
        assert stored == list(range(10))


@pytest.mark.slow
def test_a_full_disk(small_disk, bench):
    """No inode is left for the new file: all goes on in the old one, and the rotation comes when there is room."""
    disk = small_disk("size=256k,nr_inodes=3")
    b = bench(disk / "all.jsonl", rotate_bytes=3 * LINE_BYTES, compress="gzip", keep=0)
    (disk / "filler").touch()
    for _ in range(10):
        b.append()
        b.turn()
    assert len([event for event in b.events if "cannot" in event]) == 1
    assert b.stored() == list(range(10))
    (disk / "filler").unlink()
    b.pass_time(3)
    assert b.stored() == list(range(10))
    assert b.suffixes() == [""], "compressing needs one more inode"
    subprocess.run(["mount", "-o", "remount,nr_inodes=10", disk], check=True)
    b.settle()
    assert b.suffixes() == [".gz"]
    assert b.stored() == list(range(10))


@pytest.mark.slow
def test_no_room_to_compress(small_disk, bench):
    """The original is kept, the failure told once, and all is made up for when there is room."""
    disk = small_disk("size=128k")
    b = bench(disk / "all.jsonl", rotate_bytes=3 * LINE_BYTES)
    b.append(3)
    b.turn()
    b.append(1)
    b.end()
    with (disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while filler.write(b"x" * 4096):
            pass
    b.settings = OutputSettings(path=b.path, rotate_bytes=3 * LINE_BYTES, compress="gzip")
    b.begin()
    b.pass_time(5)
    assert b.suffixes() == [""]
    assert len([event for event in b.events if "cannot compress" in event]) == 1
    (disk / "filler").unlink()
    b.append(2)
    b.settle()
    assert b.suffixes() == [".gz", ".gz"]
    assert f"{b.path}: compresses again" in b.events
    assert b.stored() == list(range(6))


# --- compressing


@pytest.mark.slow
@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_rotated_files_are_compressed_one_at_a_time(bench, method):
    b = bench(rotate_bytes=3 * LINE_BYTES, compress=method, keep=0)
    for _ in range(12):
        b.append()
        b.turn()
    b.settle()
    assert b.suffixes() == [rotated_files.SUFFIXES[method]] * 4
    assert b.stored() == list(range(12))
    assert b.rotation.next_deadline_s == math.inf


@pytest.mark.slow
def test_what_an_earlier_process_left_is_compressed(bench):
    b = bench(rotate_bytes=3 * LINE_BYTES, keep=0)
    for _ in range(9):
        b.append()
        b.turn()
    b.end()
    Path(b.rotated()[0].path + ".gz.tmp").write_bytes(b"half")
    os.close(os.open(b.path + ".20261123T080000Z.000009", os.O_CREAT))
    b.settings = OutputSettings(path=b.path, rotate_bytes=3 * LINE_BYTES, compress="zstd")
    b.begin()
    b.settle()
    assert b.suffixes() == [".zst"] * 3
    assert rotated_files.find(b.path)[1] == []
    assert b.stored() == list(range(9))


def slow_start(source, method):
    """Fork a child that never comes to an end."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


@pytest.mark.slow
def test_a_compressor_that_is_killed_is_started_again_later(bench, monkeypatch):
    """Told once, however often; and the end of the trouble too."""
    b = bench(rotate_bytes=3 * LINE_BYTES, compress="gzip")
    with monkeypatch.context() as slow:
        slow.setattr(compression, "start", slow_start)
        b.append(3)
        b.turn()
        for _ in range(3):
            os.kill(b.rotation.compressor_pid, signal.SIGKILL)
            os.waitid(os.P_PID, b.rotation.compressor_pid, os.WEXITED | os.WNOWAIT)
            b.note(b.rotation.advance(b.now_s))
            assert b.rotation.compressor_pid is None
            assert b.rotation.next_deadline_s > b.now_s
            b.now_s = b.rotation.next_deadline_s
            b.turn()
            assert b.rotation.compressor_pid is not None
        b.rotation.close()
    assert len([event for event in b.events if "signal 9" in event]) == 1
    b.rotation._compressor_ended("ended by the test", b.now_s)
    b.settle()
    assert b.events[-1] == f"{b.path}: compresses again"
    assert b.suffixes() == [".gz"]


@pytest.mark.slow
def test_rotation_goes_on_while_a_compressor_works(bench, monkeypatch):
    """Its file is not removed meanwhile, even if it has become surplus."""
    b = bench(rotate_bytes=3 * LINE_BYTES, compress="gzip", keep=2)
    monkeypatch.setattr(compression, "start", slow_start)
    for _ in range(15):
        b.append()
        b.turn()
    assert [sibling.sequence for sibling in b.rotated()] == [1, 4, 5]
    assert b.rotation.next_deadline_s <= b.now_s + LAST_RETRY_S
    b.rotation.close()
    monkeypatch.undo()
    b.rotation._compressor_ended(None, b.now_s)
    b.settle()
    assert [(sibling.sequence, sibling.suffix) for sibling in b.rotated()] == [(4, ".gz"), (5, ".gz")]


@pytest.mark.slow
def test_a_file_that_cannot_be_compressed_does_not_hold_up_the_others(bench):
    """Something else has its compressed name: both are kept, and its turn comes after all others'."""
    b = bench(rotate_bytes=3 * LINE_BYTES, keep=0)
    for _ in range(9):
        b.append()
        b.turn()
    b.end()
    Path(b.rotated()[0].path + ".gz").write_bytes(b"theirs")
    b.settings = OutputSettings(path=b.path, rotate_bytes=3 * LINE_BYTES, compress="gzip")
    b.begin()
    b.pass_time(20)
    assert b.suffixes() == ["", ".gz", ".gz", ".gz"]
    assert len([event for event in b.events if os.strerror(errno.EEXIST) in event]) <= 3


def test_a_child_that_is_none_of_ours_is_ignored(bench):
    b = bench(rotate_bytes=1, compress="gzip")
    assert b.rotation.reap(os.getpid(), 0, b.now_s) == []


# --- pruning


def test_only_the_newest_are_kept_and_strangers_never_touched(bench):
    b = bench(rotate_bytes=2 * LINE_BYTES, keep=3)
    stranger = Path(b.path + ".20261123T080000Z.000001.bak")
    stranger.write_text("theirs")
    for _ in range(20):
        b.append()
        b.turn()
    assert [sibling.sequence for sibling in b.rotated()] == [8, 9, 10]
    assert b.stored() == list(range(14, 20))
    assert stranger.read_text() == "theirs"
    assert len([event for event in b.events if "removed" in event]) == 7


def test_a_file_that_could_not_be_synced_goes_with_the_rotated_files_of_its_time(bench):
    """It has committed records, so it stays as long as the rotated files that were written before it."""
    b = bench(rotate_bytes=LINE_BYTES, keep=2)
    old, new = (Path(f"{b.path}.failed-{number}") for number in (1, 2))
    for failed in (old, new):
        failed.write_bytes(b"committed\n")
    os.utime(old, (WALL_S, WALL_S))
    os.utime(new, (WALL_S + 2, WALL_S + 2))
    for number in range(2):
        b.append()
        b.turn()
        os.utime(b.rotated()[-1].path, (WALL_S + 1 + 2 * number,) * 2)
    assert (old.exists(), new.exists()) == (True, True)
    b.append()
    b.turn()
    assert (old.exists(), new.exists()) == (False, True)
    assert f"{old}: removed, by keep and keep_bytes" in b.events
    b.append()
    b.turn()
    assert not new.exists()


def test_the_bytes_kept_are_bounded(bench):
    b = bench(rotate_bytes=2 * LINE_BYTES, keep=0, keep_bytes=5 * LINE_BYTES)
    for _ in range(20):
        b.append()
        b.turn()
    assert b.stored() == list(range(16, 20))


def test_removing_that_fails_is_tried_again(bench, monkeypatch):
    b = bench(rotate_bytes=LINE_BYTES, keep=1)
    with monkeypatch.context() as broken:
        broken.setattr(os, "unlink", failing(errno.EROFS))
        for _ in range(5):
            b.append()
            b.turn()
            b.now_s += 1
    assert len(b.rotated()) == 5
    assert len([event for event in b.events if "cannot remove" in event]) == 1
    b.settle()
    assert b.stored() == [4]


# --- crashes


CRASH_POINTS = ("open", "rename", "unlink", "fsync", "fdatasync", "writev", "ftruncate", "fork", "mkdir", "fchmod")


def crash_before_call(number):
    """Make this process end, as by kill -9, before the given one of its calls to the kernel that change something."""
    left = itertools.count(1)

    def counted(real):
        def call(*args, **kwargs):
            if next(left) == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)

        return call

    for name in CRASH_POINTS:
        setattr(os, name, counted(getattr(os, name)))


def live(path, number, oracle, keys):
    """Be a writer that crashes: begin, append, sync, tell the oracle, rotate."""
    crash_before_call(number)
    b = Bench(path, **keys)
    b.number = len(b.stored())
    b.turn()
    for _ in range(7):
        b.append()
        b.file.sync()
        REAL_WRITE(oracle, b".")
        b.turn()
        if b.rotation.compressor_pid is not None:
            pid, status = os.waitpid(b.rotation.compressor_pid, 0)
            b.rotation.reap(pid, status, b.now_s)
            b.now_s += LAST_RETRY_S


def killed_at(path, number, keys):
    """Fork a writer that crashes before its N-th call; returns how many lines it synced, and whether it was killed."""
    reader, oracle = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            live(path, number, oracle, keys)
        finally:
            os._exit(0)
    os.close(oracle)
    _, status = os.waitpid(pid, 0)
    synced = len(os.read(reader, 100))
    os.close(reader)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    return synced, os.WIFSIGNALED(status)


def crash_at_every_call(directory, method):
    """Crash before each call in turn, and check what is left; the orphans among the compressors are waited for."""
    pr_set_child_subreaper = 36
    ctypes.CDLL(None).prctl(pr_set_child_subreaper, 1, 0, 0, 0)
    keys = {"rotate_bytes": 2 * LINE_BYTES, "compress": method, "keep": 0}
    for number in itertools.count(1):
        path = directory / str(number) / "all.jsonl"
        synced, was_killed = killed_at(path, number, keys)
        stored = 0
        for again in (number % 5 + 1, number % 13 + 1):
            survivor = Bench(path, **keys)
            found = survivor.stored()
            survivor.end()
            assert found == list(range(len(found))), f"crash before call {number}"
            assert stored + synced <= len(found) <= stored + synced + 1, f"crash before call {number}"
            stored = len(found)
            synced, _ = killed_at(path, again, keys)
        survivor = Bench(path, **keys)
        survivor.number = len(survivor.stored())
        survivor.append(3)
        survivor.settle()
        survivor.append()
        survivor.turn()
        assert survivor.stored() == list(range(survivor.number)), f"crash before call {number}"
        assert rotated_files.find(survivor.path)[1] == []
        assert all(sibling.nbytes for sibling in survivor.rotated())
        survivor.end()
        if not was_killed:
            break
    assert number > 40


@pytest.mark.slow
@pytest.mark.parametrize("method", ["none", "gzip"])
def test_a_crash_at_any_call_costs_no_line_and_doubles_none(tmp_path, method):
    """For every N: killed before the N-th call, and again while recovering; all that was synced is there, once.

    In a process of its own: it forks hundreds of times, which takes long where thousands of tests are loaded.
    """
    program = (
        f"from pathlib import Path; from {__name__} import *; crash_at_every_call(Path({str(tmp_path)!r}), {method!r})"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr


# --- anything, in any order


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4)),
        st.tuples(st.just("tear"), st.integers(0, 20)),
        st.tuples(st.just("break"), st.sampled_from(["rename", "fsync", "fdatasync", "open", "ftruncate"])),
        st.tuples(st.just("clock"), st.integers(-100_000, 100_000)),
        st.tuples(st.sampled_from(["reopen", "verify", "restart", "mend"]), st.none()),
    ),
    max_size=30,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(OPERATIONS)
def test_any_sequence_leaves_exactly_the_appended_lines_in_order(tmp_path_factory, operations):
    """Rotated files and the current one together are what was appended without an error, whatever else happened."""
    b = Bench(tmp_path_factory.mktemp("any") / "all.jsonl", rotate_bytes=3 * LINE_BYTES, rotate_every="1m", keep=0)
    real = {name: getattr(os, name) for name in ("rename", "fsync", "fdatasync", "open", "ftruncate", "writev")}

    def mend():
        for name, function in real.items():
            setattr(os, name, function)

    def tear(nbytes):
        def writev(fd, chunks):
            real["writev"](fd, [b"".join(chunks)[:nbytes]])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        os.writev = writev
        try:
            b.append(3)
        except OutputError:
            pass
        finally:
            os.writev = real["writev"]

    try:
        for operation, value in operations:
            try:
                match operation:
                    case "append":
                        b.append(value)
                    case "tear":
                        tear(value)
                    case "break":
                        setattr(os, value, failing(errno.EIO))
                    case "mend":
                        mend()
                    case "clock":
                        b.wall_s += value
                        b.now_s += abs(value)
                    case "restart":
                        mend()
                        b.end()
                        b.begin()
                    case _:
                        getattr(b.file, operation)()
            except OutputError:
                pass
            b.turn()
            b.now_s += 0.5
        mend()
        b.append()
        b.settle()
        assert b.stored() == list(range(b.number)), json.dumps(operations)
    finally:
        mend()
        b.end()

"""A run of frames ends where the twin ends it, and a Core that is used wrongly says so instead of writing to memory."""

import pickle

import pytest

from prefork_logd.ingest import _core_py
from prefork_logd.ingest import core as native
from prefork_logd.ipc.batch_builder import Lines
from prefork_logd.records.render import TextTemplate
from tests.parity import sides

RECORD = {"name": "shop", "msg": "said", "args": None, "created": 1.5, "levelno": 20}
LEFT_TO_PYTHON = pickle.dumps(RECORD | {"lineno": "no number"}, 1)


def _framed(*bodies):
    return b"".join(len(body).to_bytes(4, "big") + body for body in bodies)


def _run(core, sinks, slow, data, *, most_bytes=1 << 20):
    return core.run(data, 0, len(data), 1_000, 1 << 20, sides.PEER, sides.RECEIVED, sinks, slow, most_bytes, 0, 1_000)


@pytest.mark.parametrize("most_bytes", [1, 1_000, 5_000])
def test_lines_that_python_adds_count_for_the_end_of_a_run(most_bytes):
    """Else a stream of nothing but records for Python would fill a batch without end."""
    compiled = sides.core(sides.OUTPUTS[:1])
    line, *_ = compiled.lines(pickle.dumps(RECORD, 1), sides.PEER, sides.RECEIVED)
    data = _framed(*[LEFT_TO_PYTHON, pickle.dumps(RECORD, 1)] * 30)
    found = []
    for core, sink in ((compiled, native.speedups.Lines()), (_core_py.Core([]), Lines())):

        def slow(_, sink=sink):
            sink.append(line)
            return 1

        found.append((_run(core, (sink,), slow, data, most_bytes=most_bytes), bytes(sink.joined())))
    assert found[0] == found[1]
    assert found[0][0][1] == -(-most_bytes // len(line)) < 60


@pytest.mark.parametrize("protocol", [1, 4])
def test_a_record_beyond_its_bound_is_pythons_to_cut(protocol):
    """A text referred to again and again is more than a line may have, also where no JSON is written of it."""
    text = "x" * 500_000
    frame = pickle.dumps(RECORD | {f"y{index}": text for index in range(20)}, protocol)
    assert b'"<truncated>"' in sides.by_python(frame)[0]
    for output in ((None, 30, ()), (TextTemplate("%(message)s").parts, 0, ())):
        assert native.speedups is None or native.speedups.Core([output]).lines(frame, "peer", 1.5) is None
    fitting = pickle.dumps(RECORD | {f"y{index}": text for index in range(3)}, protocol)
    assert b'"<truncated>"' not in sides.by_python(fitting)[0]
    assert sides.agree(sides.core(), fitting)


def test_a_core_takes_no_frame_while_it_calls_back():
    """Its pointers are into the sinks of the run that goes on, which a second one would replace."""
    core = sides.core(sides.OUTPUTS[:1])
    data = _framed(LEFT_TO_PYTHON, pickle.dumps(RECORD, 1))
    sink, other = native.speedups.Lines(), native.speedups.Lines()
    for again in (
        lambda _: core.lines(LEFT_TO_PYTHON, "peer", 1.5),
        lambda _: _run(core, (other,), lambda _: 1, data)[1],
    ):
        with pytest.raises(RuntimeError, match="takes no other frame"):
            _run(core, (sink,), again, data)
    assert _run(core, (sink,), lambda _: 1, data)[1] == 2
    assert (len(other), sink.count) == (0, 1)


@pytest.mark.parametrize("sink", [None, Lines(), b""])
def test_a_sink_has_to_be_one(sink):
    """What is no Lines of the compiled core is refused before anything is written."""
    with pytest.raises(TypeError):
        _run(sides.core(sides.OUTPUTS[:1]), (sink,), lambda _: 1, _framed(LEFT_TO_PYTHON))


def test_a_call_of_what_cannot_be_called(core_of_json):
    """A number in the place of a class is no index of one."""
    for number in (b"K\x01", b"J\xff\xff\xff\x7f", b"G\x7f\xef\xff\xff\xff\xff\xff\xff", b"N", b"]", b"X\1\0\0\0x"):
        for call in (number + b")R", number + b")\x81", number + b")}\x92", b"(" + number + b"o"):
            body = b"}(X\x03\0\0\0msgX\x01\0\0\0mX\x07\0\0\0createdK\x01X\x01\0\0\0x" + call + b"u."
            assert core_of_json.lines(body, "peer", 1.5) is None


@pytest.fixture
def core_of_json():
    """Return a compiled core that writes JSON."""
    return sides.core(sides.OUTPUTS[:1])


class _Files(dict):
    """What a Core knows of FileSinks (ingest/file_choice.py); it makes sinks by `make`."""

    by_level, by_logger, is_full, nbytes = False, True, False, 0

    def __init__(self, make):
        self.make = make

    def __missing__(self, key):
        self[key] = self.make()
        return self[key]


@pytest.mark.skipif(native.speedups is None, reason="needs the compiled core")
def test_lines_of_files_have_to_be_lines():
    """A file's lines of another kind, or an error while they are found, raise, and nothing is written to memory."""
    core = sides.core(sides.OUTPUTS[:1])
    data = _framed(*[pickle.dumps(RECORD | {"name": name}, 1) for name in ("a", "b", "a")])
    files = _Files(native.speedups.Lines)
    assert _run(core, (files,), lambda _: 1, data)[1] == 3
    assert {key: sink.count for key, sink in files.items()} == {b"\xffa": 2, b"\xffb": 1}
    for make, error in ((Lines, TypeError), (lambda: None, TypeError), (lambda: 1 // 0, ZeroDivisionError)):
        with pytest.raises(error):
            _run(core, (_Files(make),), lambda _: 1, data)
    exported = native.speedups.Lines()
    view = memoryview(exported)
    with pytest.raises(BufferError):
        _run(core, (_Files(lambda: exported),), lambda _: 1, data)
    view.release()
    assert _run(core, (native.speedups.Lines(),), lambda _: 1, data)[1] == 3

"""The compiled core's own memory: what it takes for one frame it gives back, or uses again for the next."""

from __future__ import annotations

import ctypes
import gc

import pytest

from prefork_logd.ingest import core as native
from prefork_logd.records.render import TextTemplate
from tests.support import corpus

pytestmark = pytest.mark.skipif(not native.NATIVE, reason="the compiled core is not in use")

MOST_GROWTH_BYTES = 65_536
MOST_KEPT_BYTES = 2_500_000


class _MallocInfo(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keep",
        )
    )


def _bytes_in_use() -> int:
    """Return what malloc(3) has given out and not got back (mallinfo2(3))."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _MallocInfo
    info = libc.mallinfo2()
    return info.uordblks + info.hblkhd


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc's mallinfo2")
def test_the_corpus_leaves_no_memory_behind() -> None:
    bodies = [payload.data for payload in corpus.frames()]
    outputs = ((None, 0, ()), (TextTemplate("%(asctime)s %(message)s").parts, 0, ()))

    def render_all() -> None:
        core = native.Core(outputs)
        for body in bodies:
            core.lines(body, "192.0.2.7:40000", 1.5)
        sinks = tuple(native.Lines() for _ in outputs)
        stream = b"".join(len(body).to_bytes(4) + body for body in bodies)
        core.run(stream, 0, len(stream), 1 << 20, 1 << 20, "peer", 1.5, sinks, lambda _: False, 1 << 30, 0, 1 << 20)
        gc.collect()

    for _ in range(4):
        render_all()  # how malloc(3) gets memory depends on what was given back before (mallopt(3), M_MMAP_THRESHOLD)
    before = _bytes_in_use()
    for _ in range(5):
        render_all()
    assert _bytes_in_use() - before < MOST_GROWTH_BYTES


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc's mallinfo2")
@pytest.mark.parametrize("many", [b"]0" * 10_000, b"V\\u20ac\n0" * 5_900], ids=["containers", "texts"])
def test_what_one_large_record_needs_is_given_back(many: bytes) -> None:
    """A worker lives for months: the largest record that it has ever met is no measure of its memory."""
    core = native.Core(((None, 0, ()),))
    usual = corpus.records()[0].data
    assert core.lines(usual, "peer", 1.5) is not None
    gc.collect()
    before = _bytes_in_use()
    assert core.lines(many + usual, "peer", 1.5) is not None
    assert core.lines(usual, "peer", 1.5) is not None
    assert _bytes_in_use() - before < MOST_KEPT_BYTES

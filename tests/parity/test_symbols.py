"""The compiled core reads a record that it leaves to Python as the Python machine does."""

from __future__ import annotations

import random

import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.ingest import core
from prefork_logd.inputs.pickles import decode
from tests.parity import dearest, sides
from tests.parity.endless import Maker
from tests.support import corpus

pytestmark = pytest.mark.skipif(core.speedups is None, reason="no compiled core to compare")


def _verdict(read, frame: bytes) -> object:
    try:
        # As text: a NaN is not equal to itself.
        return repr(read(frame))
    except RecordRejected as rejected:
        return rejected.reason, rejected.detail


def _agree(frame: bytes) -> bool:
    """Check that both say the same of a frame; return whether the compiled core has read it."""
    assert core.speedups is not None
    used, decode.read_symbols = decode.read_symbols, core.speedups.read_symbols
    try:
        found = _verdict(decode.decode, frame)
    finally:
        decode.read_symbols = used
    assert found == _verdict(sides.specified, frame), frame
    return core.speedups.read_symbols(frame) is not None


def test_genuine_records() -> None:
    """Nearly all are read."""
    done = [_agree(payload.data) for payload in corpus.records()]
    assert sum(done) > 0.9 * len(done)


@pytest.mark.parametrize("payload", corpus.hostile(), ids=lambda payload: payload.name)
def test_hostile_payloads(payload: corpus.Payload) -> None:
    """What must be rejected is, in the same words."""
    _agree(payload.data)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_pickles(seed: int) -> None:
    """Of values and of opcodes, and those that take long."""
    maker, chance = Maker(seed), random.Random(seed)
    done = [_agree(maker.one()) for _ in range(300)] + [_agree(dearest.make(chance, 12_000)[1]) for _ in range(30)]
    assert sum(done) > 60


def test_a_record_within_itself_is_pythons() -> None:
    """As is a value within itself: the copy would have no end."""
    assert core.speedups is not None
    for frame in (
        b"}q\x00(X\x03\x00\x00\x00msgX\x01\x00\x00\x00mX\x01\x00\x00\x00xh\x00u.",
        b"}(X\x03\x00\x00\x00msgX\x01\x00\x00\x00mX\x01\x00\x00\x00x]q\x00h\x00au.",
    ):
        assert core.speedups.read_symbols(frame) is None
        assert not _agree(frame)

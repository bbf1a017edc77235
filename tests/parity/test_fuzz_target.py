"""The fuzzer's target, without the fuzzer: what it compares holds for the corpus, and it can tell when it does not."""

from __future__ import annotations

import random

import pytest

from prefork_logd.ingest import core
from tests.support import corpus

if not core.NATIVE:
    pytest.skip("the compiled core is not in use", allow_module_level=True)

from fuzz import places, target


@pytest.mark.parametrize("payload", corpus.load(), ids=lambda payload: payload.name)
def test_the_native_core_agrees_with_the_specification(payload: corpus.Payload) -> None:
    target.one(payload.data)


def test_a_difference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "twin", lambda _: None)
    with pytest.raises(AssertionError):
        target.one(corpus.records()[0].data)


def test_records_with_parts_in_common_agree_with_the_specification() -> None:
    """Half of the inputs are mostly zeros, which choose usual records: copied, and read by their layout or shape."""
    draw = random.Random(9)
    before = target.native.layouts(), target.native.shapes()
    for size in (*range(1, 300), *range(300, 1_500, 50)):
        data = bytes(octet if size % 2 or draw.random() < 0.3 else 0 for octet in draw.randbytes(size))
        bodies = places.frames(data, target.MOST_REPEATED)
        assert len(bodies) <= target.MOST_REPEATED
        target.one(data)
    assert target.native.layouts() > before[0]
    assert target.native.shapes() > before[1]


def test_a_difference_in_a_record_with_parts_in_common_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = bytes(200)
    target.one(usual)
    other = target.twin(places.frames(b"\1" * 200, 1)[0])
    monkeypatch.setattr(target, "twin", lambda _: other)
    with pytest.raises(AssertionError):
        target.one(usual)

"""The fuzzer's target, without the fuzzer: what it compares holds for the corpus, and it can tell when it does not."""

from __future__ import annotations

import pytest

from prefork_logd.ingest import core
from tests.support import corpus

if not core.NATIVE:
    pytest.skip("the compiled core is not in use", allow_module_level=True)

from fuzz import target


@pytest.mark.parametrize("payload", corpus.load(), ids=lambda payload: payload.name)
def test_the_native_core_agrees_with_the_specification(payload: corpus.Payload) -> None:
    target.one(payload.data)


def test_a_difference_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "twin", lambda _: None)
    with pytest.raises(AssertionError):
        target.one(corpus.records()[0].data)

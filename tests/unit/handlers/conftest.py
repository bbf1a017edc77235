"""What handlers of one test leave is not there for the handlers of the next."""

from __future__ import annotations

import pytest

from prefork_logd.handlers import _estates


@pytest.fixture(autouse=True)
def no_estates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without estates and wills."""
    monkeypatch.setattr(_estates, "_estates", [])
    monkeypatch.setattr(_estates, "_wills", set())

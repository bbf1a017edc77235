"""What all unit tests share.

Keeps the promise of `make test-fast`: a test that starts a process fails there, so that it is marked slow. And lets a
test count turns of a loop, however busy the machine is.
"""

import sys

import pytest

from prefork_logd.net import loop as loops
from prefork_logd.processes.worker import shares

_STARTS = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
LONG_S = 10.0
_is_inside = False
"""Whether a test runs: pytest-xdist starts processes of its own between tests."""


def pytest_configure(config: pytest.Config) -> None:
    """Look for processes where slow tests are left out."""
    if config.option.markexpr == "not slow":
        sys.addaudithook(_refuse)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> object:
    """Note that a test runs, with its fixtures."""
    global _is_inside  # noqa: PLW0603 - an audit hook cannot be given anything, or be taken away
    _is_inside = True
    try:
        return (yield)
    finally:
        _is_inside = False


def _refuse(event: str, _: tuple[object, ...]) -> None:
    if _is_inside and event in _STARTS:
        raise AssertionError(f"{event} in a test of `make test-fast`: mark it slow")


@pytest.fixture(autouse=True)
def in_service(monkeypatch: pytest.MonkeyPatch) -> tuple[float, float]:
    """Let no turn and no slice end because this process waits for a processor; return their times in service."""
    times_s = loops.TURN_S, shares.SLICE_S
    monkeypatch.setattr(loops, "TURN_S", LONG_S)
    monkeypatch.setattr(shares, "SLICE_S", LONG_S)
    return times_s

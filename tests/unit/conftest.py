"""Keeps the promise of `make test-fast`: a test that starts a process fails there, so that it is marked slow."""

import sys

import pytest

_STARTS = frozenset({"os.fork", "os.forkpty", "os.posix_spawn", "os.system", "subprocess.Popen"})
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

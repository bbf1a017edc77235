"""Checks and settings for every test run."""

import gc
import os
import re
import time
from collections.abc import Generator

import hypothesis
import pytest

from prefork_logd.errors import ConfigError
from prefork_logd.ingest import core

_SECONDS = re.compile(r"(?<!\d)\d{10}(?!\d)")
"""A number that may be a time in seconds since 1970."""
_DAY_S = 86_400


def pytest_configure() -> None:
    """Refuse to run without the core that the environment demands: its tests would be skipped, and all be green."""
    # Without its bytecode every process that a test starts compiles 200 modules first: half a second of a core.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    try:
        core.require()
    except ConfigError as error:
        raise pytest.UsageError(str(error)) from error
    # Hypothesis fails an example that takes 200 ms, which any one does on a machine that is busy with other things.
    hypothesis.settings.register_profile("any machine", deadline=None)
    hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse the address of an object, and the present time, in the name of a test.

    Processes that share the tests would disagree on it.
    """
    now = time.time()
    for item in items:
        if " at 0x" in item.nodeid:
            raise pytest.UsageError(f"{item.nodeid}: give the parameter an id without an address")
        if any(abs(int(number) - now) < _DAY_S for number in _SECONDS.findall(item.nodeid)):
            raise pytest.UsageError(f"{item.nodeid}: give the parameter an id without the present time")


def pytest_collection_finish() -> None:
    """Keep the thousands of collected tests out of every later collection of garbage: some tests ask for one each."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escape lone surrogates in captured texts: pytest-xdist cannot send them, and its worker would end."""
    report = yield
    report.sections = [(title, text.encode("utf-8", "backslashreplace").decode()) for title, text in report.sections]
    return report


def pytest_report_header() -> str:
    """Say which core the processes and most tests run with."""
    return f"native core: {'used' if core.NATIVE else 'not used'} {core.MISSING}".rstrip()

"""What every test run says of itself."""

from prefork_logd import native


def pytest_report_header() -> str:
    """Say which core the processes and most tests run with."""
    return f"native core: {'used' if native.NATIVE else 'not used'} {native.MISSING}".rstrip()

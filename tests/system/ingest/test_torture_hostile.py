"""A short torture with hostile clients in every run; `make torture-hostile` has a long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support import interpreters
from tests.support.disks import mounted
from tests.support.hostile import KINDS
from tests.torture.hostile import DISK_BYTES, HostileTorture

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_honest_records_are_stored_once_beside_hostile_clients(tmp_path: Path) -> None:
    """Whatever they send, and whatever else happens: nothing is lost or doubled, and no process ends by itself."""
    pythons = [interpreters.require(version) for version in ("2.7", "3.13", "3.6")]
    with mounted(tmp_path / "state", f"size={DISK_BYTES}") as disk:
        torture = HostileTorture(tmp_path, disk, 12, pythons)
        try:
            found = [torture.round(number, 1.5, kinds=kinds) for number, kinds in enumerate(halves(sorted(KINDS)), 1)]
        finally:
            torture.close()
    assert sum(one["records"] for one in found) > 100
    assert all(one["hostile"].get("bytes", 0) > 0 for one in found)
    assert all(one["harm"] for one in found)


def halves(kinds: list[str]) -> tuple[list[str], list[str]]:
    """Return every kind, in two parts."""
    return kinds[::2], kinds[1::2]

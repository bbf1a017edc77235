"""An upgrade that cannot begin says why."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import pytest

from prefork_logd.processes.master.upgrade import upgrader


def test_a_program_that_may_not_be_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where server.user may not enter the directory of the interpreter."""
    refused = PermissionError(13, "Permission denied", "/opt/python")
    monkeypatch.setattr(upgrader, "Trial", Mock(side_effect=refused))
    answers: list[dict[str, Any]] = []
    upgrader.Upgrader(Mock(may_upgrade=Mock(return_value=""))).upgrade(answers.append)
    (answer,) = answers
    assert "/opt/python: Permission denied; the collector's user needs the right to run it" in answer["error"]
    assert answer["error"].endswith("; the running code goes on")

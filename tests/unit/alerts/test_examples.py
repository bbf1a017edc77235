"""The examples in docs/alerts.md are a valid configuration, and each receiver has one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from prefork_logd.config.load import loads
from prefork_logd.config.receivers import FORMS, WebhookSettings

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "alerts.md").read_text()


def test_the_examples() -> None:
    """Taken together, in the order of the page."""
    settings = loads("".join(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)), "", {"state_dir": "/x"})
    assert {rule.on for rule in settings.alert} == {"count", "absence", "new-group"}
    assert {receiver.type for receiver in settings.receiver} == {"webhook", "smtp", "command"}
    forms = {receiver.form for receiver in settings.receiver if isinstance(receiver, WebhookSettings)}
    assert forms == set(get_args(FORMS))

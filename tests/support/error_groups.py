"""Makes errors as stored lines, and a store that counts them in groups."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from prefork_logd.config.stores.errors import ErrorsSettings
from prefork_logd.stores.errors.store import ErrorStore
from tests.support.stores import JOURNAL, NOW, line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRACE = 'Traceback (most recent call last):\n  File "/srv/shop/cart.py", line {}, in add\n    x\nKeyError: {}'


@contextlib.contextmanager
def opened(path: Path | ErrorsSettings, **settings: Any) -> Iterator[ErrorStore]:
    """Give an open store."""
    given = path if isinstance(path, ErrorsSettings) else ErrorsSettings(path=str(path / "groups.db"), **settings)
    with contextlib.closing(ErrorStore(given)) as store:
        store.open(JOURNAL)
        yield store


def failed(number: int = 1, **fields: Any) -> bytes:
    """Return the line of an error in one place, of shop 2.4."""
    made = line(levelno=40, msg="failed", exc_text=TRACE.format(17, number), created=NOW + number)
    sender = {"service": "shop", "version": "2.4", "environment": "prod", **fields}
    head, _, tail = made.rpartition(b',"peer":')
    return head + b"".join(b',"%s":"%s"' % (k.encode(), v.encode()) for k, v in sender.items()) + b',"peer":' + tail

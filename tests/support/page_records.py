"""Makes the records of the store that tests of the page search."""

from __future__ import annotations

from tests.support.stores import NOW, line

RECORDS = 120
"""Number of records."""


def lines() -> list[bytes]:
    """Return the records of the store: one a second, of two loggers, each tenth an error."""
    return [
        line(
            NOW + number,
            name="shop.cart" if number % 3 else "shop.orders",
            levelno=40 if number % 10 == 0 else 20,
            msg=f"record {number} took {number} ms",
            process=7 + number % 2,
            status=500 if number % 10 == 0 else 200,
        )
        for number in range(RECORDS)
    ]


ODD_LINES = [
    b'{"created":%d.5,"time":"2026-11-23T03:24:10.500000Z","message":"m","extra":{"n":9007199254740993,"big":1%s}}\n'
    % (NOW, b"0" * 40),
    b'{"created":%d.5,"time":"2026-11-23T03:24:10.500000Z","message":"lone \\udcff"}\n' % NOW,
    b'{"created":%d.5,"message":"twice","extra":{"a":1,"a":2}, "name" : "spaces"}\n' % NOW,
    b'{"created":%d.5,"message":"float","extra":{"f":1.10,"g":1E5,"h":0.1e-400}}\n' % NOW,
]
"""Lines that a JSON library would write otherwise."""

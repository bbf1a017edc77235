"""Messages become patterns."""

from __future__ import annotations

import time

import pytest

from prefork_logd.query.patterns import pattern_of


@pytest.mark.parametrize(
    ("message", "pattern"),
    [
        ("nothing to see", "nothing to see"),
        ("order 17 paid in 12.5ms", "order <number> paid in <duration>"),
        ("worker12 took 3s", "worker<number> took <duration>"),
        ("total 1,234.50 EUR, 1e9 or 5", "total <number>.<number> EUR, <number> or <number>"),
        ("A-2207-118901", "A-<number>-<number>"),
        ("id 9f1c2b7e-0d4a-4a53-8c1d-2f6f0a9d1b3e gone", "id <uuid> gone"),
        (f"trace 00-{'a' * 32}-{'b' * 16}-01", "trace <trace>"),
        ("GET https://shop/a?b=1 200", "GET <url> <number>"),
        ("mail to ada+x@example.org failed", "mail to <email> failed"),
        ("from 10.0.0.1:5432 and fe80::1:2:3:4", "from <ip> and <ip>"),
        ("at 2026-11-29T10:00:00.123Z or 10:00:00,5", "at <time> or <time>"),
        ("on 2026-11-29", "on <time>"),
        ("0xdeadbeef 9f1c2b7e0d deadbeef cafe", "<hex> <hex> deadbeef cafe"),
        ("user='bob x' path=\"/a/1\" n=5", "user=<value> path=<value> n=<number>"),
        ("日本 7 \udcff", "日本 <number> \udcff"),
        ("", ""),
    ],
)
def test_placeholders(message: str, pattern: str) -> None:
    """Numbers, ids, addresses and times; words stay."""
    assert pattern_of(message) == pattern


@pytest.mark.parametrize(
    "part", ["a", "1", "a1", "1.", "1,", "a@", "a.b", "='", '="', "a-", "1:", "://a", "f", "1234-56-78 ", "%+a@b."]
)
def test_no_message_takes_long(part: str) -> None:
    """A tenth of a second would be forty times what the slowest one takes."""
    started = time.process_time()
    for _ in range(3):
        pattern_of(part * 500_000)
    assert time.process_time() - started < 0.3

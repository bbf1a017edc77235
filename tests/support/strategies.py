"""Generates values and attributes for property tests."""

from hypothesis import settings
from hypothesis import strategies as st

bounded = settings(deadline=None, derandomize=True, database=None, max_examples=150)
"""Settings of hypothesis: reproducible, without deadlines."""

texts = st.text(st.characters(codec=None), max_size=300)
"""Any text, lone surrogates included."""
integers = st.integers(-(1 << 200), 1 << 200)
scalars = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts
plain = scalars
# `st.recursive` takes three times as long for as many values.
for _ in range(5):
    plain = scalars | st.lists(plain, max_size=8) | st.dictionaries(texts, plain, max_size=8)
NAMES = [
    "name",
    "msg",
    "args",
    "levelname",
    "levelno",
    "pathname",
    "filename",
    "module",
    "exc_info",
    "exc_text",
    "stack_info",
    "lineno",
    "funcName",
    "created",
    "msecs",
    "relativeCreated",
    "thread",
    "threadName",
    "processName",
    "process",
    "taskName",
    "message",
    "asctime",
    "time",
    "peer",
    "received",
    "extra",
]
flat_attributes = st.dictionaries(st.sampled_from(NAMES) | texts, scalars, min_size=2, max_size=40)
attributes = st.dictionaries(st.sampled_from(NAMES) | texts, plain, max_size=25)

MEANINGFUL = b'{}[]",:\\u0123456789-+.eEtrufalsn\x00\x1f\x7f\x80\xff '
"""Bytes that mean something in a line of JSON."""


def damaged(line):
    """Return a strategy for a line with some bytes put in, and some taken out; it stays one line."""

    def damage(place, put, cut):
        return line[:place] + put.replace(b"\n", b"") + line[min(place + cut, len(line) - 1) :]

    return st.builds(damage, st.integers(0, len(line) - 2), st.binary(max_size=3), st.integers(0, 3))


def with_changed_byte(line):
    """Return a strategy for a line with another byte that means something."""

    def change(place, byte):
        return line[:place] + bytes([byte]) + line[place + 1 :]

    return st.builds(change, st.integers(0, len(line) - 2), st.sampled_from(list(MEANINGFUL)))

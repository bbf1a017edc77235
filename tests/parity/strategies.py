"""Records with anything in them that the compiled core knows, and a little that it does not."""

import collections
import datetime as dt
import decimal
import pathlib
import uuid

from hypothesis import strategies as st

from tests.support import strategies

zones = st.none() | st.integers(-1439, 1439).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
known = (
    st.binary(max_size=40)
    | st.binary(max_size=40).map(bytearray)
    | st.datetimes(timezones=zones)
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals()
    | st.uuids()
    | st.sets(st.integers())
    | st.frozensets(strategies.texts, max_size=3)
    | st.builds(ValueError, strategies.texts, st.integers())
    | st.builds(KeyError, st.sampled_from(["plain", "it's", 'a "b"', "", "é"]))
    | st.sampled_from(
        [
            *(pathlib.PurePosixPath("/srv/a b/c"), pathlib.PurePosixPath("a/../b"), pathlib.PureWindowsPath("c:/x")),
            *(collections.OrderedDict(a=1, b=[2]), collections.Counter("aab"), collections.deque([1, 2], 5)),
            *(dict, print, dt.datetime, uuid.uuid4, decimal.Decimal(), range(3), 3j, object(), type(None)),
            *(1 << 63, -(1 << 63), (1 << 64) - 1, 10**40, 0.1, 1e22, 5e-324, float("nan"), float("-inf")),
        ]
    )
    | st.builds(collections.defaultdict, st.just(list), st.dictionaries(strategies.texts, st.integers(), max_size=3))
)
values = st.recursive(
    strategies.scalars | st.floats() | known,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(strategies.texts, inner, max_size=4)
        | st.dictionaries(st.integers() | st.text("ab", max_size=2) | st.booleans() | st.none(), inner, max_size=3)
    ),
    max_leaves=12,
)
fields = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["shop", "shop.views", "shopping", "a.b.c", "a", ""]) | strategies.texts,
        "msg": strategies.texts,
        "args": st.none() | st.just(()) | values,
        "levelno": st.sampled_from([10, 20, 30, 50]) | st.integers(-(1 << 63), (1 << 63) - 1),
        "created": st.floats(0, 7e9) | st.integers(0, 7_000_000_000),
    },
    optional={
        "levelname": strategies.texts,
        "lineno": st.integers(-(1 << 64), 1 << 64) | st.none(),
        "exc_text": st.none() | strategies.texts,
        "stack_info": st.none() | strategies.texts,
        "exc_info": st.none(),
        "msecs": st.floats(),
        "thread": st.integers(0, 1 << 62),
        "taskName": st.none() | strategies.texts,
        "x": values,
    },
)
attributes = st.builds(dict.__or__, st.dictionaries(strategies.texts, values, max_size=6), fields)

"""Objects of well-known libraries, as services put them into records, and what is stored of each."""

import array
import collections
import dataclasses
import datetime as dt
import decimal
import re
import types
import zoneinfo
from urllib.parse import urlparse, urlsplit

import attrs
import dateutil.tz
import django
import django.conf
import httpx
import numpy as np
import pandas as pd
import pendulum
import pydantic
import sqlalchemy as sa
import yarl
from django.db import models
from django.utils.functional import lazystr
from multidict import CIMultiDict
from sqlalchemy import orm

if not django.conf.settings.configured:
    django.conf.settings.configure(USE_I18N=False)
    django.setup()


class Login(pydantic.BaseModel):
    """A model with a secret and a private attribute."""

    user: str
    password: pydantic.SecretStr
    _cache: str = pydantic.PrivateAttr("s3cret")


class Shown(pydantic.BaseModel):
    """A model that hides a field from its text, and one from its document."""

    user: str
    pin: str = pydantic.Field("1234", repr=False)
    note: str = pydantic.Field("n", exclude=True)


@attrs.define
class Door:
    """A class of attrs that hides a field from its text."""

    id: int
    pin: str = attrs.field(default="1234", repr=False)


@attrs.define
class Key:
    """A class of attrs, with slots."""

    id: int
    _secret: str = "s3cret"


@dataclasses.dataclass
class Order:
    """A dataclass with a private field."""

    id: int
    _token: str = "s3cret"


class Base(orm.DeclarativeBase):
    """Tables."""


class User(Base):
    """A table."""

    __tablename__ = "user"
    id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
    name: orm.Mapped[str]


class Invoice(models.Model):
    """A model of Django."""

    number = models.CharField(max_length=20)
    total = models.DecimalField(max_digits=9, decimal_places=2)
    owner = models.ForeignKey("self", models.CASCADE, null=True)

    class Meta:
        """Names its application, which no installed one has to be."""

        app_label = "shop"

    def __str__(self) -> str:
        """Say what the handler does not store."""
        return "the text of an invoice"


class Moment(dt.datetime):
    """A subclass of datetime."""


class Safe(str):
    """A subclass of str."""

    __slots__ = ()


class Count(int):
    """A subclass of int."""


class Rate(float):
    """A subclass of float."""


class Stack(list):
    """A subclass of list."""


class Headers(dict):
    """A subclass of dict."""


def _user_and_row():
    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with orm.Session(engine, expire_on_commit=False) as session:
        session.add(User(id=1, name="ada"))
        session.commit()
        row = session.execute(sa.text("select 1 as a, 'x' as b")).one()
        return session.get(User, 1), row


USER, ROW = _user_and_row()
BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
HERE = __name__
NUMBERS = [
    (np.float64(1.5), 1.5),
    (np.float32("nan"), "nan"),
    (np.float16(0.5), 0.5),
    (np.int32(-7), -7),
    (np.uint64(2**64 - 1), 2**64 - 1),
    (np.bool_(True), True),
    (np.complex64(1 + 2j), "(1+2j)"),
    (np.str_("é"), "é"),
    (np.bytes_(b"a\xff"), r"a\xff"),
    (np.datetime64("2026-01-02"), "2026-01-02"),
    (np.datetime64("2026-01-02T03:04:05.678"), "2026-01-02T03:04:05.678"),
    (np.datetime64("1969-12-31T23:59:59.5", "ns"), "1969-12-31T23:59:59.500000000"),
    (np.datetime64("NaT", "s"), "NaT"),
    (np.timedelta64(5, "ms"), "5 milliseconds"),
    (np.arange(3), [0, 1, 2]),
    (np.ones((2, 2), dtype=">f4"), [[1.0, 1.0], [1.0, 1.0]]),
    (np.asfortranarray(np.arange(24).reshape(2, 3, 4)), np.arange(24).reshape(2, 3, 4).tolist()),
    (np.array(5), 5),
    (np.zeros((2, 0)), [[], []]),
    (np.array([1, "a", None], dtype=object), [1, "a", None]),
    (np.array(["ab", "c"]), ["ab", "c"]),
    (np.array([b"ab", b"c"]), ["ab", "c"]),
    (
        np.arange(1_000.0).reshape(10, 100),
        {"__class__": "numpy.ndarray", "shape": [10, 100], "dtype": "float64", "first": list(map(float, range(10)))},
    ),
    (np.array([("ada", 7)], [("user", "U4"), ("n", ">i4")]), [{"user": "ada", "n": 7}]),
    (np.array([("ada", 7)], [("user", "S4"), ("n", "M8[D]")])[0], {"user": "ada", "n": "1970-01-08"}),
    (np.array([("ada", [1])], [("user", "O"), ("n", "O")]), [{"user": "ada", "n": [1]}]),
    (np.rec.array([("ada", 7)], [("user", "U4"), ("n", "i4")]), [{"user": "ada", "n": 7}]),
    (
        np.zeros(2, [("user", "U4"), ("n", "f8", (2,))]),
        {"__class__": "numpy.ndarray", "shape": [2], "dtype": "V32", "first": []},
    ),
]
TIMES = [
    (pd.Timestamp("2026-01-02 03:04:05.678", tz="Europe/Berlin"), "2026-01-02T03:04:05.678000+01:00"),
    (pd.Timestamp("2026-07-02 03:04:05", tz="Europe/Berlin"), "2026-07-02T03:04:05+02:00"),
    (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
    (pd.Timestamp("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05+00:00"),
    (pd.Timestamp("2026-01-02 03:04:05.123456789+02:00"), "2026-01-02T03:04:05.123456789+02:00"),
    (pd.Timedelta("1h"), 3_600.0),
    (pd.NaT, "NaT"),
    (pd.NA, "<NA>"),
    (pendulum.datetime(2026, 1, 2, tz="Europe/Berlin"), "2026-01-02T00:00:00+01:00"),
    (pendulum.datetime(2026, 1, 2, 3, 4, 5, 6), "2026-01-02T03:04:05.000006+00:00"),
    (pendulum.date(2026, 1, 2), "2026-01-02"),
    (pendulum.time(1, 2), "01:02:00"),
    (pendulum.duration(hours=1), 3_600.0),
    (dt.datetime(2026, 1, 2, tzinfo=BERLIN), "2026-01-02T00:00:00+01:00"),
    (dt.datetime(2026, 7, 2, tzinfo=BERLIN), "2026-07-02T00:00:00+02:00"),
    (dt.datetime(1, 1, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), "0001-01-01T00:00:00+00:00"),
    (dt.datetime(2026, 1, 2, tzinfo=dateutil.tz.gettz("Europe/Berlin")), "2026-01-02T00:00:00+01:00"),
    (dt.datetime(2026, 1, 2, tzinfo=dateutil.tz.tzutc()), "2026-01-02T00:00:00+00:00"),
    (dt.datetime(2026, 1, 2, tzinfo=dateutil.tz.tzoffset("X", -3_600)), "2026-01-02T00:00:00-01:00"),
    (Moment(2026, 1, 2, tzinfo=dt.UTC), "2026-01-02T00:00:00+00:00"),
    (Moment(2026, 1, 2), "2026-01-02T00:00:00"),
]
OBJECTS = [
    (Login(user="ada", password="hunter2"), {"user": "ada", "password": "**********"}),
    (pydantic.SecretStr("hunter2"), "**********"),
    (pydantic.SecretBytes(b"hunter2"), "**********"),
    (Key(1), {"__class__": f"{HERE}.Key", "state": {"id": 1}}),
    (Order(1), {"__class__": f"{HERE}.Order", "state": {"id": 1}}),
    (USER, {"id": 1, "name": "ada"}),
    (Invoice(1, "2026-17", decimal.Decimal("9.50")), {"id": 1, "number": "2026-17", "total": "9.50", "owner_id": None}),
    # As `only("number")` reads one: the other columns are not loaded.
    (Invoice.from_db("default", ["id", "number"], [2, "2026-18"]), {"id": 2, "number": "2026-18"}),
    (ROW, {"a": 1, "b": "x"}),
    (sa.engine.make_url("postgresql://u:hunter2@h:5/db?password=hunter2"), "postgresql://u:***@h:5/db"),
    (yarl.URL("https://u:hunter2@x.y/z?a=b#c"), "https://u:***@x.y/z?a=b#c"),
    (httpx.URL("https://u:hunter2@x.y:8080/z"), "https://u:***@x.y:8080/z"),
    (urlsplit("https://u:hunter2@x.y:8080/z?a=b#c"), "https://u:***@x.y:8080/z?a=b#c"),
    (urlsplit(b"https://u:hunter2@x.y:8080/z"), "https://u:***@x.y:8080/z"),
    (urlparse("https://u:hunter2@x.y/z;p=1?a=b"), "https://u:***@x.y/z;p=1?a=b"),
    (urlparse(b"https://u:hunter2@x.y/z?a=b#c"), "https://u:***@x.y/z?a=b#c"),
    (dict(CIMultiDict(Host="x")), {"Host": "x"}),
    (lazystr("later"), "later"),
    (Safe("s"), "s"),
    (Count(3), 3),
    (Rate(1.5), 1.5),
    (Stack([1, [2]]), [1, [2]]),
    (Headers(a=1), {"a": 1}),
    (re.compile("a+", re.IGNORECASE), "re.compile('a+', re.IGNORECASE)"),
    (types.SimpleNamespace(a=1, _b=2), {"a": 1}),
    (collections.UserDict(a=1), {"a": 1}),
    (collections.UserString("s"), "s"),
    (array.array("i", [1, 2]), [1, 2]),
    (Ellipsis, "Ellipsis"),
]

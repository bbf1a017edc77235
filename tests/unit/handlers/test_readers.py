"""How objects of each class are read, with the real packages: public fields, usual texts, no secret, no query."""

from __future__ import annotations

import argparse
import array
import collections
import collections.abc
import contextlib
import dataclasses
import datetime as dt
import email.message
import enum
import fractions
import functools
import http.cookies
import ipaddress
import itertools
import pathlib
import re
import sqlite3
import subprocess
import time
import types
import urllib.parse
import uuid
import warnings
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from prefork_logd.handlers import _readers, _texts
from prefork_logd.handlers._values import Reading
from tests.support.interpreters import require

if TYPE_CHECKING:
    from collections.abc import Iterator

HIDDEN = "**********"


def read(value: object) -> Any:
    return Reading().attribute("x", value)


class State(enum.Enum):
    PAID = 1


class Kind(enum.StrEnum):
    BOOK = "book"


class Level(enum.IntEnum):
    HIGH = 5


class Right(enum.Flag):
    READ = 1
    WRITE = 2


class Text(str):
    __slots__ = ()


class Number(int):
    pass


class Mapped(dict):
    pass


Point = collections.namedtuple("Point", "x y")  # noqa: PYI024 - as services have them


@dataclasses.dataclass
class Order:
    number: int
    note: str = dataclasses.field(repr=False, default="secret")
    _state: str = "private"


@dataclasses.dataclass(slots=True)
class Slotted:
    number: int


class SecretKey:
    def __str__(self) -> str:
        return "s3cret"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (State.PAID, {"__class__": f"{__name__}.State", "name": "PAID", "value": 1}),
        (Right.READ | Right.WRITE, {"__class__": f"{__name__}.Right", "name": "READ|WRITE", "value": 3}),
        (Kind.BOOK, "book"),
        (Level.HIGH, 5),
        (Text("<b>"), "<b>"),
        (Number(7), 7),
        (Mapped(a=1), {"a": 1}),
        (Point(1, [2]), {"x": 1, "y": [2]}),
        (Order(1), {"number": 1}),
        (Slotted(1), {"number": 1}),
        (types.SimpleNamespace(a=1, _b=2), {"a": 1}),
        (argparse.Namespace(password="x", verbose=1), {"password": "x", "verbose": 1}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        (ipaddress.ip_address("::1"), "::1"),
        (ipaddress.ip_network("10.0.0.0/8"), "10.0.0.0/8"),
        (fractions.Fraction(1, 3), "1/3"),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        (pathlib.Path("/x"), "/x"),
        (1 + 2j, "(1+2j)"),
        (range(3), "range(0, 3)"),
        (memoryview(b"ab"), b"ab"),
        (bytearray(b"ab"), b"ab"),
        (array.array("i", [1, 2]), [1, 2]),
        (re.compile("a+"), "re.compile('a+')"),
        (collections.ChainMap({"a": 1}), {"a": 1}),
        (collections.UserDict(a=1), {"a": 1}),
        (SecretKey(), HIDDEN),
        (len, {"__name__": "len"}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_classes_of_the_standard_library(value: object, expected: object) -> None:
    found = read(value)
    assert found == expected
    assert type(found) is type(expected)


def test_large_arrays_are_shape_kind_and_first_items() -> None:
    found = read(array.array("i", range(1000)))
    assert (found["shape"], found["dtype"], found["first"]) == ([1000], "i", list(range(10)))


def test_numpy() -> None:
    np = pytest.importorskip("numpy")
    given = {
        "score": np.float64(0.5),
        "half": np.float32(0.5),
        "n": np.int64(7),
        "ok": np.bool_(True),
        "text": np.str_("x"),
        "day": np.datetime64("2026-01-02"),
        "small": np.arange(3),
        "days": np.array(["2026-01-02"], dtype="M8[D]"),
        "objects": np.array([State.PAID], dtype=object),
        "large": np.zeros((100, 100)),
    }
    found = read(given)
    large = found.pop("large")
    assert found == {
        "score": 0.5,
        "half": 0.5,
        "n": 7,
        "ok": True,
        "text": "x",
        "day": "2026-01-02",
        "small": [0, 1, 2],
        "days": ["2026-01-02"],
        "objects": [{"__class__": f"{__name__}.State", "name": "PAID", "value": 1}],
    }
    assert [type(found[name]) for name in ("score", "half", "n", "ok", "text")] == [float, float, int, bool, str]
    assert large == {"__class__": "numpy.ndarray", "shape": [100, 100], "dtype": "float64", "first": [0.0] * 10}


def test_structured_arrays_of_numpy_have_the_names_of_their_fields() -> None:
    np = pytest.importorskip("numpy")
    login = np.dtype([("user", "U5"), ("password", "U9"), ("at", [("day", "i4"), ("hour", "i4")])])
    row = {"user": "ada", "password": "hunter2", "at": {"day": 1, "hour": 2}}
    logins = np.array([("ada", "hunter2", (1, 2))], dtype=login)
    assert read(logins) == [row]
    assert read(logins[0]) == row
    assert read(logins.reshape(1, 1)) == [[row]]
    assert read(np.repeat(logins, 1000))["first"] == [row] * 10
    assert read(np.rec.array([(1, 2)], names="a,b")) == [{"a": 1, "b": 2}]
    assert read(np.ma.array([1, 2], mask=[False, True])) == [1, None]
    assert read(np.ma.array([(1, 2)], mask=[(False, True)], dtype="i4,i4")) == [{"f0": 1, "f1": None}]


def test_numbers_of_numpy_that_python_has_not_are_numbers() -> None:
    np = pytest.importorskip("numpy")
    assert (read(np.longdouble(0.5)), read([np.clongdouble(1 + 2j)])) == (0.5, ["(1+2j)"])
    assert read(np.array([0.5], dtype=np.longdouble)) == [0.5]


def test_dataclasses_have_their_fields_alone() -> None:
    @dataclasses.dataclass
    class Login:
        user: str
        password: dataclasses.InitVar[str] = "hunter2"
        limit: ClassVar[int] = 5

    assert read(Login("ada")) == {"user": "ada"}


def test_mapped_dataclasses_hide_what_they_hide() -> None:
    pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")

    class Base(orm.MappedAsDataclass, orm.DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        __annotations__ = {"id": orm.Mapped[int], "token": orm.Mapped[str]}
        id = orm.mapped_column(primary_key=True)
        token = orm.mapped_column(repr=False)

    assert read(User(id=1, token="hunter2")) == {"id": 1}


def test_headers_are_objects_so_that_secrets_are_found_by_their_names() -> None:
    datastructures = pytest.importorskip("werkzeug.datastructures")
    multidict = pytest.importorskip("multidict")
    pairs = [("Cookie", "x"), ("Accept", "a"), ("Accept", "b")]
    message = email.message.Message()
    for name, value in pairs:
        message[name] = value
    wanted = {"Cookie": "x", "Accept": ["a", "b"]}
    assert read(datastructures.Headers(pairs)) == read(multidict.CIMultiDict(pairs)) == read(message) == wanted
    assert read(datastructures.Authorization("basic", {"username": "ada", "password": "hunter2"})) == HIDDEN


def test_headers_without_end_are_cut() -> None:
    class Endless(collections.abc.Mapping):
        def getlist(self, key: str) -> list[str]:
            return [key]

        def __getitem__(self, key: str) -> str:
            return key

        def __iter__(self) -> Iterator[str]:
            return (f"key {number}" for number in itertools.count())

        def __len__(self) -> int:
            return 1

    reading = Reading()
    assert len(reading.attribute("x", Endless())) > 9_000
    assert reading.truncated == ["x"]


def test_of_cookies_the_names_are_stored() -> None:
    httpx = pytest.importorskip("httpx")
    cookies = httpx.Cookies({"session": "hunter2"})
    for value in (cookies, cookies.jar, *cookies.jar, http.cookies.SimpleCookie("session=hunter2")):
        assert read(value) == {"session": HIDDEN}


@pytest.mark.parametrize("split", [urllib.parse.urlsplit, urllib.parse.urlparse])
def test_split_urls_are_texts_without_secrets(split: Any) -> None:
    assert read(split("https://ada:hunter2@h/p?a=1&access_token=hunter2&b=2#c")) == (
        "https://ada:***@h/p?a=1&access_token=***&b=2#c"
    )
    assert read(split(b"https://ada:hunter2@h/p")) == "https://ada:***@h/p"


def test_split_urls_of_urllib3_are_texts_without_secrets() -> None:
    class Url(NamedTuple):
        auth: str
        host: str

        def __str__(self) -> str:
            return f"https://{self.auth}@{self.host}"

    Url.__module__ = "urllib3.util.url"
    assert read(Url("ada:hunter2", "h")) == "https://ada:***@h"


def test_proxies_that_would_do_something_are_not_evaluated() -> None:
    lazy = pytest.importorskip("lazy_object_proxy")
    proxy = lazy.Proxy(lambda: {"password": "hunter2"})
    assert "not evaluated" in read(proxy)["text"]
    assert proxy["password"] == "hunter2"
    assert read(proxy) == {"password": "hunter2"}


def test_proxies_of_werkzeug_ask_no_function() -> None:
    """As that of Flask-Login, which asks a database for the user; those that look into a context are read."""
    local = pytest.importorskip("werkzeug.local")

    class Users:
        asked = 0

        def load(self) -> str:
            self.asked += 1
            return "ada"

    users = Users()
    for finds in (lambda: users.load() + "!", users.load, functools.partial(users.load)):
        found = read(local.LocalProxy(finds))
        assert found == {"__class__": "werkzeug.local.LocalProxy", "text": "<LocalProxy, not evaluated>"}
    assert not users.asked
    context, stack = local.Local(), local.LocalStack()
    context.user = "ada"
    stack.push("bob")
    assert (read(context("user")), read(stack())) == ("ada", "bob")
    assert read(context("request"))["text"] == "<LocalProxy unbound>"


@pytest.mark.slow
def test_objects_of_old_classes_of_python_2_are_read_as_others() -> None:
    program = """
import cookielib, email, sys, UserDict
sys.path.insert(0, sys.argv[1])
from handlers._values import Reading
class Password:
    def __str__(self):
        return "hunter2"
class Order:
    def __str__(self):
        return "order 7"
jar = cookielib.CookieJar()
jar.set_cookie(cookielib.Cookie(0, "sid", "hunter2", None, 0, "h", 1, 0, "/", 1, 0, None, 0, None, None, {}))
read = Reading().attribute
assert read("x", Password()) == "**********"
assert read("x", jar) == read("x", list(jar)[0]) == {"sid": "**********"}, read("x", jar)
message = email.message_from_string("Cookie: a\\nAccept: b\\nAccept: c\\n")
assert read("x", message) == {"Cookie": "a", "Accept": ["b", "c"]}
assert read("x", UserDict.IterableUserDict(password=1)) == {"password": 1}
assert read("x", Order()) == {"__class__": "__main__.Order", "text": "order 7"}
"""
    package = pathlib.Path(_readers.__file__).parents[1]
    subprocess.run([require("2.7"), "-c", program, str(package)], check=True, timeout=60)


def test_views_of_dicts_are_lists_and_rows_of_sqlite_are_objects() -> None:
    given = {"a": 1}
    assert (read(given.keys()), read(given.values()), read(given.items())) == (["a"], [1], [["a", 1]])
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        assert read(connection.execute("SELECT 1 AS a, 2 AS a, 'x' AS password").fetchone()) == {
            "a": 1,
            "a_": 2,
            "password": "x",
        }


def test_a_time_without_a_day_has_its_zone() -> None:
    assert read(dt.time(3, 4, tzinfo=ZoneInfo("Europe/Berlin"))) == "03:04:00[Europe/Berlin]"
    assert read(dt.time(3, 4, tzinfo=dt.UTC)) == "03:04:00+00:00"


class Many(collections.abc.Mapping):
    def __getitem__(self, key: int) -> int:
        return key

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def __len__(self) -> int:
        return 25_000


class Talkative:
    def __str__(self) -> str:
        return "x" * 25_000


@pytest.mark.parametrize(
    "value",
    [bytearray(100_000), memoryview(b"x" * 100_000), Talkative(), ValueError("x" * 25_000)],
    ids=lambda value: type(value).__name__,
)
def test_what_a_reader_cuts_is_named(value: object) -> None:
    reading = Reading()
    reading.attribute("x", {"a": value, "b": 1})
    assert reading.truncated == ["x.a"]


def test_a_large_mapping_keeps_its_first_keys_and_a_count() -> None:
    reading = Reading()
    found = reading.attribute("x", [Many()])[0]
    assert found["..."] == 25_000 - (len(found) - 1)
    assert len(found) > 9_000
    assert reading.truncated == ["x.0"]


def test_pandas_and_pendulum() -> None:
    pd = pytest.importorskip("pandas")
    pendulum = pytest.importorskip("pendulum")
    assert read(pd.Timestamp("2026-01-02T03:04:05Z")) == "2026-01-02T03:04:05+00:00"
    assert read(pd.Timedelta("1h")) == 3600.0
    assert (read(pd.NaT), read(pd.NA)) == ("NaT", "<NA>")
    assert read(pd.Series([1, 2])) == [1, 2]
    assert read(pd.DataFrame({"a": [1, 2]})) == {
        "__class__": "pandas.DataFrame",
        "shape": [2, 1],
        "first": [{"a": 1}, {"a": 2}],
    }
    assert read(pd.Series(range(1000)))["first"] == list(range(10))
    table = pd.DataFrame([["ada", "hunter2", pd.NaT]], columns=["user", "password", "when"])
    assert read(table.iloc[0]) == read(table)["first"][0] == {"user": "ada", "password": "hunter2", "when": "NaT"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(pd.DataFrame([[1, 2, 3]], columns=["a", "a", "a_"]))["first"] == [{"a": 1, "a_": 2, "a__": 3}]
    when = pendulum.datetime(2026, 7, 2, 3, 4, 5, tz="Europe/Berlin")
    assert read(when) == "2026-07-02T03:04:05+02:00"


def test_urls_of_pydantic_are_texts_without_passwords() -> None:
    pydantic = pytest.importorskip("pydantic")
    pydantic_core = pytest.importorskip("pydantic_core")

    assert read(pydantic.HttpUrl("https://u:hunter2@x.y/z?a=b")) == "https://u:***@x.y/z?a=b"
    assert read(pydantic.PostgresDsn("postgresql://u:hunter2@h:5432/db")) == "postgresql://u:***@h:5432/db"
    assert read(pydantic_core.Url("https://u:hunter2@x.y/z")) == "https://u:***@x.y/z"
    assert (
        read(pydantic_core.MultiHostUrl("postgresql://u:hunter2@a,v:hunter3@b/db")) == "postgresql://u:***@a,v:***@b/db"
    )


def test_pydantic_hides_what_it_hides() -> None:
    pydantic = pytest.importorskip("pydantic")

    class Login(pydantic.BaseModel):
        user: str
        password: pydantic.SecretStr
        note: str = pydantic.Field(default="quiet", repr=False)
        when: dt.date = dt.date(2026, 1, 2)
        _cache: str = "private"

        @pydantic.computed_field
        @property
        def costly(self) -> str:
            raise AssertionError("is not asked")

    assert read(Login(user="ada", password="hunter2")) == {
        "user": "ada",
        "password": HIDDEN,
        "when": "2026-01-02",
    }


def test_attrs_hides_what_it_hides() -> None:
    attrs = pytest.importorskip("attrs")

    @attrs.define
    class Key:
        id: int
        secret: str = attrs.field(repr=False)
        shown: str = attrs.field(repr=lambda value: value[:1] + "...")

    assert read(Key(1, "s3cret", "abc")) == {"id": 1, "shown": "a..."}


def test_msgspec_structs() -> None:
    msgspec = pytest.importorskip("msgspec")
    item = msgspec.defstruct("Item", [("name", str), ("_id", int)])
    assert read(item("x", 1)) == {"name": "x"}


def test_sqlalchemy_gives_loaded_columns_without_a_query() -> None:
    sa = pytest.importorskip("sqlalchemy")
    orm = pytest.importorskip("sqlalchemy.orm")

    class Base(orm.DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "users"
        id = sa.Column(sa.Integer, primary_key=True)
        name = sa.Column(sa.String)
        notes = orm.deferred(sa.Column(sa.String))
        orders = orm.relationship("Bought")

    class Bought(Base):
        __tablename__ = "orders"
        id = sa.Column(sa.Integer, primary_key=True)
        user = sa.Column(sa.ForeignKey("users.id"))

    engine = sa.create_engine("sqlite://")
    Base.metadata.create_all(engine)
    with orm.Session(engine) as session:
        session.add(User(id=1, name="ada", notes="long", orders=[Bought(id=2)]))
        session.commit()
        session.expunge_all()
        user = session.get(User, 1)
        row = session.execute(sa.select(User.id, User.name)).one()
        queries: list[Any] = []
        sa.event.listen(engine, "before_cursor_execute", lambda *given: queries.append(given))
        assert read(user) == {"id": 1, "name": "ada"}
        assert read(row) == read(row._mapping) == {"id": 1, "name": "ada"}
        session.expire(user)
        assert read(user) == {"id": 1}  # as after each commit
        assert "SELECT" not in str(read(session.query(User)))
        assert not queries
    engine.dispose()
    assert read(sa.engine.make_url("postgresql://u:topsecret@h/db")) == "postgresql://u:***@h/db"


def test_django_gives_loaded_columns_without_a_query() -> None:
    django = pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(
            DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
            INSTALLED_APPS=[],
            USE_TZ=True,
        )
    django.setup()
    from django.db import models
    from django.test import RequestFactory
    from django.utils.functional import SimpleLazyObject
    from django.utils.safestring import mark_safe
    from django.utils.translation import gettext_lazy

    class Shop(models.Model):  # noqa: DJ008
        name = models.CharField(max_length=9)

        class Meta:
            app_label = "shop"

    class Order(models.Model):
        number = models.IntegerField()
        shop = models.ForeignKey(Shop, on_delete=models.CASCADE)
        note = models.TextField()

        class Meta:
            app_label = "shop"

        def __str__(self) -> str:
            raise AssertionError("may ask the database")

    order = Order(id=3, number=1, shop_id=2, note="x")
    del order.__dict__["note"]  # as .defer("note") does
    assert read(order) == {"id": 3, "number": 1, "shop_id": 2}
    for queries in (Order.objects.all(), Order.objects):
        found = read(queries)
        assert "not evaluated" in found["text"]
        assert f"{__name__}" in found["text"]
    assert read(gettext_lazy("hello")) == "hello"
    assert type(read(mark_safe("<b>"))) is str
    request = RequestFactory().get("/pay", {"token": "t0ken"}, headers={"cookie": "sid=1"})
    found = read(request)
    assert found == "<WSGIRequest: GET '/pay'>"
    user = SimpleLazyObject(lambda: order)  # as request.user is
    assert read(user)["text"] == "<SimpleLazyObject, not evaluated>"
    assert user.number == 1
    assert read(user) == {"id": 3, "number": 1, "shop_id": 2}


def test_urls_hide_their_password() -> None:
    yarl = pytest.importorskip("yarl")
    httpx = pytest.importorskip("httpx")
    for make in (yarl.URL, httpx.URL):
        assert read(make("http://u:pw@h/x")) == "http://u:***@h/x"

    class Client:
        def __str__(self) -> str:
            return "<Client redis://:hunter2@cache:6379/0>"

    assert read(Client())["text"] == "<Client redis://:***@cache:6379/0>"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://:p@ss@h/0", "redis://:***@h/0"),
        ("redis://ada:@@@h/0", "redis://ada:***@h/0"),
        ("x://u:p@ss@a:1,v:q@q@b/db", "x://u:***@a:1,v:***@b/db"),
        ("http://u:p@h/x, mail to ada@h", "http://u:***@h/x, mail to ada@h"),
    ],
)
def test_a_password_in_a_url_may_have_an_at_sign(url: str, text: str) -> None:
    assert _texts.shown(url) == text


@pytest.mark.parametrize(
    "piece",
    ["q", "://", "a:", "://a:", "http:/", "@", "://a:x@,", ",a:b@", "a.+-", "?token", "token", "&a-", "?token="],
)
def test_long_texts_take_no_longer_than_they_are(piece: str) -> None:
    """Within `log.info` of a service: the square of a megabyte would take minutes."""
    text = "a://" + piece * (1_500_000 // len(piece))
    began_s = time.process_time()
    found = _texts.shown(text)
    assert time.process_time() - began_s < 5
    if piece != "?token=":  # of which the first hides the others
        assert found.data.startswith("a://")
        assert found.data.endswith(" characters cut)")


def test_requests_of_web_frameworks_are_method_and_path() -> None:
    requests = pytest.importorskip("starlette.requests")
    scope = {"type": "http", "method": "GET", "path": "/pay", "headers": [(b"authorization", b"Bearer t0ken")]}
    assert read(requests.Request(scope)) == "<Request: GET '/pay'>"
    flask = pytest.importorskip("flask")
    app = flask.Flask("shop")
    with app.test_request_context("/pay?token=t0ken"):
        assert read(flask.request._get_current_object()) == read(flask.request) == "<Request: GET '/pay'>"
        flask.g.user = "ada"
        assert "flask.g" in read(flask.g)["text"]
    assert read(flask.request)["text"] == "<LocalProxy unbound>"


def test_readers_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_readers, "_kinds", {})
    monkeypatch.setattr(_readers, "_MOST_KINDS", 10)
    for number in range(25):
        read(type(f"Kind{number}", (), {})())
    assert len(_readers._kinds) <= 10


def test_a_metaclass_that_fails_costs_nothing() -> None:
    class Meta(type):
        @property
        def __mro__(cls) -> Any:
            raise ValueError("no bases")

    class Kind(metaclass=Meta):
        pass

    assert "Kind" in str(read(Kind()))

"""Values of `extra`, from a service with our handler to the stored record: plain data, no secrets, marks where cut."""

from __future__ import annotations

import enum
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from prefork_logd.handlers import SocketHandler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.harness import Collector


class State(enum.Enum):
    PAID = 1


@pytest.fixture
def store(collector: Collector) -> Iterator[Callable[..., dict[str, Any]]]:
    """Return a function that logs, and returns the stored record."""
    handler = SocketHandler("{}:{}".format(*collector.address()), None)
    logger = logging.getLogger("shop.values")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)

    def log(message: Any, *args: Any, **extra: Any) -> dict[str, Any]:
        before = len(collector.records())
        logger.info(message, *args, extra=extra)
        assert handler.flush(30)
        return collector.wait_for_records(before + 1)[before]

    yield log
    logger.removeHandler(handler)
    handler.close()


def test_values_of_data_shops_are_numbers_lists_and_times(store: Callable[..., dict[str, Any]]) -> None:
    np = pytest.importorskip("numpy")
    pd = pytest.importorskip("pandas")
    stored = store(
        "x",
        score=np.float64(0.93),
        n=np.int64(7),
        when=pd.Timestamp("2026-01-02T03:04:05Z"),
        state=State.PAID,
        vec=np.arange(3),
    )
    assert stored["extra"] == {
        "score": 0.93,
        "n": 7,
        "when": "2026-01-02T03:04:05+00:00",
        "state": {"__class__": f"{__name__}.State", "name": "PAID", "value": 1},
        "vec": [0, 1, 2],
    }


def test_no_secret_that_str_and_repr_hide_is_stored(store: Callable[..., dict[str, Any]], collector: Collector) -> None:
    pydantic = pytest.importorskip("pydantic")
    attrs = pytest.importorskip("attrs")
    sqlalchemy = pytest.importorskip("sqlalchemy")

    class Login(pydantic.BaseModel):
        user: str
        code: pydantic.SecretStr

    @attrs.define
    class Key:
        id: int
        private: str = attrs.field(repr=False)

    login = Login(user="ada", code="hunter2")
    url = sqlalchemy.engine.make_url("postgresql://u:topsecret@h/db")
    stored = store("login %s at %s", login, url, login=login, url=url, sshkey=Key(1, "s3cret"))
    assert stored["extra"] == {
        "login": {"user": "ada", "code": "**********"},
        "url": "postgresql://u:***@h/db",
        "sshkey": {"id": 1},
    }
    lines = b"".join(collector.lines())
    assert not any(secret in lines for secret in (b"hunter2", b"topsecret", b"s3cret"))


def test_a_leaf_that_is_no_data_costs_itself(store: Callable[..., dict[str, Any]]) -> None:
    stored = store("bad", ctx={"user": 17, "path": "/x", "lock": threading.Lock()})
    assert stored["extra"]["ctx"].pop("lock")["__class__"] == "_thread.lock"
    assert stored["extra"]["ctx"] == {"user": 17, "path": "/x"}


def test_a_large_list_and_a_large_message_are_cut_and_kept(store: Callable[..., dict[str, Any]]) -> None:
    stored = store("sync failed", ids=list(range(60000)), user=17)
    assert (stored["message"], stored["extra"]["user"]) == ("sync failed", 17)
    assert stored["extra"]["ids"][:2] == [0, 1]
    assert stored["extra"]["ids"][-1] == {"...": 50000}
    assert stored["truncated"] == ["extra.ids"]
    stored = store("begin" + "y" * 3_000_000 + "end")
    assert stored["message"].startswith("beginyyy")
    assert stored["message"].endswith("yyyend")
    assert len(stored["message"]) > 1_000_000
    assert stored["truncated"] == ["message"]


def test_a_dict_is_message_and_fields(store: Callable[..., dict[str, Any]]) -> None:
    stored = store({"event": "paid", "user": 17})
    assert (stored["message"], stored["extra"]) == ("paid", {"user": 17})

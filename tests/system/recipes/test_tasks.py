"""The recipes of docs/recipes.md for task queues, with real brokers."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.harness import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.recipes import Recipe

REDIS = shutil.which("redis-server")
JOBS = """
import logging

def invoice(number):
    logging.getLogger("shop.invoices").info("invoice %d printed", number, extra={"invoice": number})
    return 100 / number
"""

LAST_WORDS = """@worker_process_shutdown.connect
def say(**_):
    logging.getLogger("shop.pool").info("ends")


@worker_process_shutdown"""


def _of(records: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [record for record in records if record["name"] == name]


def test_celery(recipe: Callable[[str], Recipe]) -> None:
    """Records of a prefork pool are stored with their tasks, Celery's own with tracebacks, and a process's last one.

    Celery's worker takes 6 s to end with this broker, so it is killed after its pool has ended.
    """
    pytest.importorskip("celery")
    shop = recipe("Celery")
    shop.write("tasks.py", shop.files["tasks.py"].replace("@worker_process_shutdown", LAST_WORDS, 1))
    # The broker of the filesystem sends to the one folder, and reads from the other.
    (shop.folder / "data_in").mkdir()
    (shop.folder / "data_out").symlink_to("data_in")
    shop.environment["CELERY_BROKER_URL"] = "filesystem://"
    service = shop.start()
    send = [sys.executable, "-c", "from tasks import invoice; [invoice.delay(number) for number in range(10)]"]
    subprocess.run(send, cwd=shop.folder, env=shop.environment, check=True, timeout=60)
    wait_for(lambda: len(_of(shop.seen(), "celery.app.trace")) == 10, f"tasks done, but {shop.output}")
    service.send_signal(signal.SIGTERM)
    own = {record["name"] for record in shop.seen()} - {"shop.invoices"}
    records = shop.stored(10 + 2, *own)
    printed = _of(records, "shop.invoices")
    assert sorted(record["extra"]["invoice"] for record in printed) == list(range(10))
    assert {record["extra"]["task"] for record in printed} == {"tasks.invoice"}
    ended = _of(records, "celery.app.trace")
    assert {r["extra"]["data"]["id"] for r in ended} == {r["extra"]["task_id"] for r in printed}
    (failed,) = (record for record in ended if record["levelname"] == "ERROR")
    assert failed["exc_text"].endswith("ZeroDivisionError: division by zero")
    assert len({record["peer"] for record in _of(records, "shop.pool")}) == 2
    assert len({record["peer"] for record in records}) == len({record["process"] for record in records}) == 3


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """Return the URL of a Redis server of this test."""
    if REDIS is None:
        pytest.skip("no redis-server is installed (Debian: redis-server)")
    path = tmp_path / "redis.sock"
    command = [REDIS, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            wait_for(path.exists, "redis-server serving")
            yield f"unix://{path}"
        finally:
            server.terminate()


def test_rq(recipe: Callable[[str], Recipe], redis: str) -> None:
    """Each job's process ends without Python's own end, and still all records of it are stored."""
    rq = pytest.importorskip("rq")
    from redis import Redis

    shop = recipe("RQ")
    shop.write("jobs.py", JOBS)
    with Redis.from_url(redis) as connection:
        queue = rq.Queue(connection=connection)
        jobs = {queue.enqueue("jobs.invoice", number).id for number in range(10)}
        connection.connection_pool.disconnect()
    status = shop.start("--url", redis, "--burst").wait(60)
    assert (status, shop.output) == (0, "")
    records = shop.stored(10, "rq.worker", "rq.job")
    printed = _of(records, "shop.invoices")
    assert [record["extra"]["invoice"] for record in printed] == list(range(10))
    assert {record["extra"]["job_id"] for record in printed} == jobs
    assert {record["extra"]["job"] for record in printed} == {"jobs.invoice"}
    assert len({record["process"] for record in printed}) == 10
    (failed,) = (record for record in records if record["levelname"] == "ERROR")
    assert failed["message"].rstrip().endswith("ZeroDivisionError: division by zero")

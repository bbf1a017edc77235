"""The recipes of docs/recipes.md that need nothing but Python, and those of other logging libraries."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.harness import messages
from tests.support.recipes import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import Collector
    from tests.support.recipes import Recipe

USES = {
    "basicConfig": "",
    "LOGGING =": "import logging.config\nlogging.config.dictConfig(LOGGING)\n",
}
"""What the code of docs/handler.md still needs: that with one word, and that with the other."""
START_HERE = 'if __name__ == "__main__":\n'


@pytest.mark.parametrize("word", USES)
def test_the_code_of_the_handlers_page(word: str, collector: Collector) -> None:
    """Both ways to attach the handler pass a logger's INFO, though the logger was there before."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "handler.md").read_text(), re.MULTILINE | re.DOTALL)
    (code,) = (block.replace("9020", str(collector.address()[1])) for block in blocks if word in block)
    code = f"import logging\nshop = logging.getLogger('shop')\n{code}{USES[word]}shop.info('order paid')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stderr == ""
    assert messages(collector.wait_for_records(1)) == ["order paid"]


def test_asyncio(recipe: Callable[[str], Recipe]) -> None:
    """Each task's record is stored once, in the order in which the tasks ran."""
    shop = recipe("asyncio")
    shop.run()
    records = shop.stored(200)
    assert messages(records) == [f"order {number} paid" for number in range(200)]


def test_a_full_memory_does_not_stop_a_loop(recipe: Callable[[str], Recipe]) -> None:
    """Without a collector and with room for few records, a loop goes on, although it could wait for a minute."""
    shop = recipe("asyncio")
    shop.collector.stop()
    code = shop.files["shop.py"].replace("range(200)", "range(2000)")
    shop.write(
        "shop.py", code.replace('"drop_old"', '"drop_old", limit_bytes=50_000, block_timeout=60, close_timeout=0')
    )
    service = shop.start()
    assert service.wait(30) == 0
    assert "records are dropped" in shop.output


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(recipe: Callable[[str], Recipe], method: str) -> None:
    """Each process of a pool has a handler and a connection of its own, however it is started."""
    shop = recipe("multiprocessing")
    code = shop.files["shop.py"]
    shop.write("shop.py", code.replace(START_HERE, f"{START_HERE}    multiprocessing.set_start_method({method!r})\n"))
    shop.run()
    records = shop.stored(200)
    assert sorted(record["extra"]["shelf"] for record in records) == list(range(200))
    assert len({(record["process"], record["peer"]) for record in records}) == len({r["process"] for r in records})


def test_structlog(recipe: Callable[[str], Recipe]) -> None:
    """What is bound, in context variables and given is in `extra`, each with its type."""
    shop = recipe("structlog")
    shop.run()
    paid, missing = shop.stored(2)
    assert paid["extra"] == {"order": 1042, "total": {"EUR": 12.5}, "customer": 17, "request": "c0ffee"}
    assert (missing["levelname"], missing["extra"]["order"]) == ("ERROR", 1043)
    assert missing["exc_text"].endswith("KeyError: 'discount'")
    assert (paid["filename"], paid["module"]) == ("shop.py", "shop")


def test_loguru(recipe: Callable[[str], Recipe]) -> None:
    """Message, bound values and the traceback are fields, each at its place."""
    shop = recipe("loguru")
    service = shop.start()
    assert service.wait(60) == 0
    paid, missing = shop.stored(2)
    assert (paid["message"], paid["levelname"], paid["filename"]) == ("order 1042 paid", "INFO", "shop.py")
    assert paid["extra"] == missing["extra"] == {"customer": 17}
    assert (missing["message"], missing["levelname"]) == ("no discount", "ERROR")
    assert missing["exc_text"].startswith("Traceback (most recent call last):\n")
    assert missing["exc_text"].endswith("KeyError: 'discount'")


TESTS = """
import logging, pytest

@pytest.mark.parametrize("number", range(20))
def test_checkout(number, caplog):
    logging.getLogger("shop.orders").info("order %d paid", number)
    assert caplog.messages == [f"order {number} paid"]
"""


@pytest.mark.parametrize("jobs", ["0", "1"])
def test_pytest(recipe: Callable[[str], Recipe], jobs: str) -> None:
    """Each record of a run names its test; a process of pytest-xdist has a handler of its own."""
    shop = recipe("pytest")
    shop.write("test_shop.py", TESTS)
    only = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": f"-p no:cacheprovider -p xdist -n {jobs}"}
    service = shop.start(env=only)
    assert service.wait(60) == 0, shop.output
    assert "20 passed" in shop.output
    records = shop.stored(20)
    assert sorted((record["extra"]["test"], record["message"]) for record in records) == sorted(
        (f"test_shop.py::test_checkout[{number}]", f"order {number} paid") for number in range(20)
    )

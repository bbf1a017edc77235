"""The types of the public names: complete, and strict enough for a service that is checked strictly."""

from __future__ import annotations

import ast
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest

import prefork_logd.handlers
from prefork_logd.handlers import SocketHandler, make_pickle

STUB = Path(prefork_logd.handlers.__file__).with_suffix(".pyi")
SERVICE = """
import logging
import pathlib
import ssl
from prefork_logd.handlers import SocketHandler


class Money:
    amount = 1


def default(value: object) -> object:
    if isinstance(value, Money):
        return {"amount": value.amount}
    return value


handler = SocketHandler("127.0.0.1:9020", None, overflow="drop_old", close_timeout=1.0, default=default)
handler.setLevel(logging.INFO)
handler.close_timeout = 0.5
logging.getLogger().addHandler(handler)
is_done: bool = handler.flush(1.0)
held: int = handler.counters()["held"]
SocketHandler("tls://logs.example.com:9020", None, tls_ca="/ca.pem", tls_cert="/c.pem", tls_key="/c.key")
SocketHandler("logs.example.com", 9020, tls_server_name="logs", ssl_context=ssl.create_default_context())
SocketHandler("logs.example.com", 9020, tls=True)
SocketHandler(pathlib.Path("/run/s"), None, spool_dir=pathlib.Path("/spool"), tls_ca=pathlib.Path("/c"))
"""


def _functions() -> dict[str, ast.FunctionDef]:
    tree = ast.parse(STUB.read_text())
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_public_name_and_argument_has_a_type() -> None:
    tree = ast.parse(STUB.read_text())
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert names == set(prefork_logd.handlers.__all__)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    (init,) = [
        node for node in classes["SocketHandler"].body if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    assert list(inspect.signature(SocketHandler.__init__).parameters) == [argument.arg for argument in init.args.args]
    given = {argument.arg for argument in _functions()["make_pickle"].args.args}
    assert set(inspect.signature(make_pickle).parameters) == given


@pytest.mark.slow
def test_a_service_that_is_checked_strictly_is_clean(tmp_path: Path) -> None:
    service = tmp_path / "service.py"
    service.write_text(SERVICE + 'SocketHandler("127.0.0.1", 9020, overflow="forget")\n')
    root = Path(prefork_logd.handlers.__file__).parents[2]
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), "service.py"]
    environment = {**os.environ, "MYPYPATH": str(root)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.count("error:") == 1, done.stdout
    assert 'Argument "overflow" to "SocketHandler" has incompatible type' in done.stdout

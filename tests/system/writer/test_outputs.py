"""Outputs end to end: which records each holds, in which form, and that no record can pass for another."""

from __future__ import annotations

import json
import logging
import logging.handlers
import os
import re
import signal
from typing import TYPE_CHECKING

from prefork_logd.records.render import unescape
from tests.support import corpus
from tests.support.harness import UNSAFE, frame, messages, wait_for
from tests.support.session_client import Faithful, check_each_once

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.harness import Collector

    Maker = Callable[..., Collector]

SEVERAL = """
[[output]]
name = "all"
path = "all.jsonl"
[[output]]
name = "trouble"
path = "trouble.jsonl"
level = "WARNING"
[[output]]
name = "shop"
path = "deep/er/shop.log"
format = "text"
template = "%(levelname)-8s|%(name)s|%(order)s|%(message)s"
loggers = ["shop", "billing.tax"]
[[output]]
name = "shop-errors"
path = "shop-errors.jsonl"
level = 35
loggers = ["shop"]
"""
SENT = [
    ("shop", logging.INFO, "in"),
    ("shop.cart", logging.ERROR, "child"),
    ("shopping", logging.ERROR, "no child"),
    ("billing", logging.WARNING, "parent"),
    ("billing.tax", logging.DEBUG, "second"),
    ("root", 36, "root"),
    ("shop", 34, "between levels"),
]
FORGED = "\n2026-01-01 00:00:00,000 INFO root nothing happened\r\x1b[2J\x9b1m\u202e\u2028\x85\ufeffend\\n\n\ttabbed\x00"
MARK = "@@"


def test_each_output_holds_what_its_level_and_loggers_let_through(make_collector: Maker) -> None:
    """A record goes to every output whose level it reaches and whose loggers it belongs to, as logging has it."""
    collector = make_collector(SEVERAL, "--workers", "2").start()
    with collector.connect() as sock:
        for name, level, message in SENT:
            sock.sendall(frame(message, name=name, level=level, order=7))
        assert messages(collector.wait_for_records(len(SENT), "all.jsonl")) == [message for _, _, message in SENT]
        assert messages(collector.wait_for_records(5, "trouble.jsonl")) == [
            "child", "no child", "parent", "root", "between levels",
        ]  # fmt: skip
        assert messages(collector.wait_for_records(1, "shop-errors.jsonl")) == ["child"]
    assert collector.stop() == 0
    assert b"".join(collector.lines("deep/er/shop.log")).decode() == (
        "INFO    |shop|7|in\n"
        "ERROR   |shop.cart|7|child\n"
        "DEBUG   |billing.tax|7|second\n"
        "Level 34|shop|7|between levels\n"
    )


def test_status_counts_what_each_output_holds(make_collector: Maker) -> None:
    """Records and bytes of each output in `status` are those of its file."""
    collector = make_collector(SEVERAL, "--workers", "2").start()
    with collector.connect() as sock:
        for name, level, message in SENT:
            sock.sendall(frame(message, name=name, level=level))
        collector.wait_for_records(len(SENT), "all.jsonl")
        wanted = {"all": 7, "trouble": 5, "shop": 4, "shop-errors": 1}

        def counted() -> bool:
            return {output["name"]: output["records"] for output in collector.status()["outputs"]} == wanted

        wait_for(counted, f"counts {wanted}")
        for output in collector.status()["outputs"]:
            assert output["bytes"] == sum(map(len, collector.lines(output["path"])))


def test_no_message_can_forge_a_record(make_collector: Maker) -> None:
    """Whatever a record holds, it is one record in the file, reads back exactly, and moves no terminal."""
    toml = (
        '[[output]]\npath = "out.jsonl"\n[[output]]\npath = "out.log"\nformat = "text"\n'
        f'template = "{MARK}%(name)s{MARK}%(message)s"\n'
    )
    collector = make_collector(toml, "--workers", "1").start()
    texts = [payload for payload in corpus.frames() if payload.name.startswith("text-") and payload.expect != "reject"]
    assert len(texts) > 10
    with collector.connect() as sock:
        sock.sendall(frame(FORGED, name=FORGED, key=FORGED))
        for payload in texts:
            sock.sendall(len(payload.data).to_bytes(4, "big") + payload.data)

        def all_in() -> bool:
            status = collector.status()
            return bool(status["records"] + status["rejected"] == 1 + len(texts))

        wait_for(all_in, "every payload decoded")
    assert collector.stop() == 0
    stored = collector.records("out.jsonl")
    assert len(stored) + len(collector.rejected()) == 1 + len(texts)

    for name in ("out.jsonl", "out.log"):
        text = (collector.state_dir / name).read_bytes().decode("utf-8")
        assert not UNSAFE.search(text), name
    assert "\t" not in (collector.state_dir / "out.jsonl").read_text()
    assert (stored[0]["message"], stored[0]["name"], stored[0]["extra"]) == (FORGED, FORGED, {"key": FORGED})

    text = (collector.state_dir / "out.log").read_bytes().decode("utf-8")
    records = re.split(r"\n(?!\t)", text.removesuffix("\n"))
    assert len(records) == len(stored)
    for record, shown in zip(stored, records, strict=True):
        assert not shown.startswith("\t")
        wanted = f"{MARK}{record.get('name', '-')}{MARK}{record.get('message', '')}"
        for block in (record.get("exc_text"), record.get("stack_info")):
            if block:
                wanted += block if wanted.endswith("\n") else f"\n{block}"
        assert unescape(shown) == wanted


def test_traceback_continues_its_record(make_collector: Maker) -> None:
    """In a text output the lines of a traceback start with a tab; in JSON they are one field."""
    toml = '[[output]]\npath = "out.log"\nformat = "text"\n[[output]]\npath = "out.jsonl"\n'
    collector = make_collector(toml, "--workers", "1").start()
    text = "first line\nsecond line"
    try:
        raise ValueError(text)  # noqa: TRY301 - only what was raised has a traceback
    except ValueError:
        handler = logging.handlers.SocketHandler(*collector.address())
        logger = logging.Logger("shop")  # noqa: LOG001 - one of this test's own
        logger.addHandler(handler)
        logger.exception("failed")
        logger.info("went on")
        handler.close()
    stored = collector.wait_for_records(2, "out.jsonl")
    wait_for(lambda: b"went on" in b"".join(collector.lines("out.log")), "the second record")
    first, *rest = (collector.state_dir / "out.log").read_text().splitlines()
    assert first.endswith(" ERROR shop failed")
    assert rest.pop().endswith(" INFO shop went on")
    assert all(line.startswith("\t") for line in rest)
    assert "\n".join(line[1:] for line in rest) == stored[0]["exc_text"]
    assert json.dumps(stored[0]["exc_text"]).startswith('"Traceback (most recent call last):\\n')


def test_an_output_without_a_reader_may_be_skipped(make_collector: Maker, tmp_path: Path) -> None:
    """With on_error = "skip" no client waits for it: at a start, after a kill, in a stall; status has the number."""
    os.mkfifo(tmp_path / "fifo")
    collector = make_collector(
        f'[[output]]\npath = "all.jsonl"\n[[output]]\nname = "live"\npath = "{tmp_path}/fifo"\non_error = "skip"\n',
        "--workers", "1",
    ).start()  # fmt: skip
    client = Faithful(collector, "a")
    client.log(20)
    live = collector.status()["outputs"][1]
    assert (live["records"], live["skipped"], live["failing"]) == (0, 20, True)
    os.kill(collector.child("writer"), signal.SIGKILL)
    client.log(5)
    with os.fdopen(os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        client.log(5)
        assert len(reader.read().splitlines()) == 5
        assert not collector.status()["outputs"][1]["failing"]
    client.close()
    assert "its records are skipped until it works again" in collector.log
    assert "written again; skipped 5 records" in collector.log
    assert collector.stop() == 0
    check_each_once(collector.state_dir, [client])

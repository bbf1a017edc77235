"""A record that was cut has the paths of the parts that were."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from prefork_logd.ingest.bounded import MOST_PATH_CHARACTERS, MOST_PATHS, cut_record
from prefork_logd.inputs.pickles.decode import Attributes, decode
from prefork_logd.records.render import render_json

RECORD = {"name": "shop", "msg": "sync failed", "created": 1.5, "levelno": 40}


def _line(attributes: dict[str, Any]) -> dict[str, Any]:
    frame = pickle.dumps(attributes, 1)
    line: dict[str, Any] = json.loads(render_json(cut_record(decode(frame), "peer", 2.0)))
    return line


def test_the_path_of_an_attribute() -> None:
    """`truncated` stands behind `extra`, with the path of each value that was cut."""
    line = _line({**RECORD, "ids": list(range(60_000)), "user": 7})
    assert line["truncated"] == ["extra.ids"]
    assert line["extra"]["user"] == 7
    assert (line["message"], line["levelno"]) == ("sync failed", 40)
    names = list(line)
    assert names[names.index("extra") + 1] == "truncated"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("msg", "message"),
        ("exc_text", "exc_text"),
        ("args", "extra.args"),
        ("truncated", "extra.truncated"),
        ("...", "extra"),
        ("x" * 999, "extra." + "x" * (MOST_PATH_CHARACTERS - 6)),
    ],
)
def test_paths_are_those_of_the_stored_record(name: str, path: str) -> None:
    """Fields have their own names, everything else is in extra; a path has a largest length."""
    attributes = Attributes()
    attributes.update(RECORD)
    attributes.truncated = [name]
    assert cut_record(attributes, "peer", 2.0).truncated == [path]


def test_paths_are_few() -> None:
    """A client cannot make a line long by them."""
    attributes = Attributes()
    attributes.truncated = [f"k{number}" for number in range(MOST_PATHS + 5)]
    found = cut_record(attributes, "peer", 2.0).truncated
    assert len(found) == MOST_PATHS + 1
    assert found[-1] == "..."


def test_a_record_that_is_whole_has_none() -> None:
    """Whatever a client calls its attributes."""
    line = _line({**RECORD, "truncated": ["message"], "x": {"...": 5}})
    assert "truncated" not in line
    assert line["extra"] == {"truncated": ["message"], "x": {"...": 5}}


def test_paths_of_the_client_come_first() -> None:
    """Our handler cuts records, too: neither marks are lost, nor doubled."""
    line = _line({**RECORD, "prefork_logd.truncated": ["extra.rows", "extra.ids"], "ids": list(range(60_000))})
    assert line["truncated"] == ["extra.rows", "extra.ids"]
    line = _line({**RECORD, "prefork_logd.truncated": ["extra.rows"], "ids": list(range(60_000))})
    assert line["truncated"] == ["extra.rows", "extra.ids"]

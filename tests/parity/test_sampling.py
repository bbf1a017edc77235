"""Sampling by the compiled core keeps the records that the Python modules keep, and marks them alike."""

import pickle

import pytest

from prefork_logd.config.load import loads
from prefork_logd.ingest import _core_py
from prefork_logd.ingest import core as native
from prefork_logd.ingest.dispatcher import Dispatcher
from prefork_logd.ingest.sampling import MARK_BYTES, Sampler
from prefork_logd.ipc.batch import RECORDS
from prefork_logd.ipc.configuration import Configuration
from prefork_logd.records.render import render_values
from prefork_logd.records.sender import NOBODY, make_sender
from tests.support import corpus

PEER, RECEIVED = "192.0.2.7:40000", 1_795_404_250.5
SENDERS = (
    NOBODY,
    make_sender("web-1", "shöp", "prod", "2", {"region": "eu", "on": True}),
    make_sender("web-1", "shöp", "prod", "", {"sample_rate": 7}),
    make_sender("web-1", "shop", "", "", {f"f{number}": number for number in range(32)}),
)
OUTPUTS = """
[[output]]
name = "all"
[[output]]
name = "text"
format = "text"
template = "%(levelname)s %(name)s %(message)s %(sample_rate)s"
[[output]]
name = "warnings"
level = "WARNING"
"""
STORE = '[[store]]\ntype = "parquet"\n'
RULES = [
    "keep_one_of = 3\nper = []",
    'keep_one_of = 2\nlevel = "INFO"\nbelow = "ERROR"',
    "keep_per_second = 2\nper = ['logger']",
    "keep_one_of = 5\nbelow = 999999999\nservices = ['shöp']\nenvironments = ['prod']",
    "keep_one_of = 5\nbelow = 999999999\nfields = {key = 7, on = true}",
    "keep_one_of = 2\nbelow = 50\nfields = {path = '/healthé'}\n[[sample]]\nkeep_one_of = 4\nfields = {region = 'eu'}",
]


def _dispatcher(monkeypatch, toml, *, compiled):
    with monkeypatch.context() as patch:
        if not compiled:
            patch.setattr(native, "Core", _core_py.Core)
        settings = loads(toml, "", {"state_dir": "/state", "workers": 1})
        stores = tuple(range(len(settings.store)))
        one = Dispatcher(Configuration(1, settings, tuple(range(1, len(settings.output) + 1)), stores))
    one.sampler._choose = lambda most: most // 2
    one.sampler._clock = lambda: 5.0
    return one


def _frames():
    own = [
        {"name": name, "msg": "m", "args": None, "created": 1.5, "levelno": level, **more}
        for name in ("shop", "shop.cart", "a")
        for level in (10, 20, 30, 40)
        for more in ({}, {"key": 7, "on": True}, {"key": 7.0}, {"path": "/healthé"}, {"on": 1}, {"sample_rate": "x"})
    ]
    for protocol in (1, 4):
        yield from (pickle.dumps(record, protocol) for record in own for _ in range(3))
    yield from (payload.data for payload in corpus.records()[:400:3])
    # The core begins these, and leaves them to Python when their lines are too long.
    yield from [pickle.dumps(own[0] | {"x": ["y" * 5_000] * 200}, 4)] * 4
    yield from (pickle.dumps(record, 2) for record in own[:5])


@pytest.mark.parametrize("stores", ["store = []\n", STORE, STORE + 'level = "WARNING"\n'], ids=["none", "all", "some"])
@pytest.mark.parametrize("sender", SENDERS, ids=["nobody", "fields", "own", "many"])
@pytest.mark.parametrize("rule", RULES)
def test_the_same_records_are_kept(monkeypatch, rule, sender, stores):
    """With the same marks and numbers, in each form of line."""
    if not native.NATIVE:
        pytest.skip(f"no compiled core to compare: {native.MISSING or 'it is switched off'}")
    top, tables = (stores, "") if stores.startswith("store =") else ("", stores)
    toml = f"{top}{OUTPUTS}{tables}[[sample]]\n{rule}\n"
    data = b"".join(len(frame).to_bytes(4, "big") + frame for frame in _frames())
    found = []
    for compiled in (True, False):
        one = _dispatcher(monkeypatch, toml, compiled=compiled)
        position, shipped, lines = 0, 0, []
        while position < len(data):
            position, _, _, _, runs = one.run(data, position, 1 << 30, 1 << 30, PEER, RECEIVED, sender=sender)
            shipped += sum(count for _, count in runs)
            lines += [bytes(one.batch._gathered(output).joined()) for output in (0, 1, 2, 3, RECORDS)]
            one.batch.build(0)
        found.append((shipped, one.sampler.take_dropped(), b"".join(lines)))
    assert found[0][:2] == found[1][:2]
    assert found[0][2].splitlines() == found[1][2].splitlines()
    assert found[0][1] > 0 or ("services" in rule and sender.environment != "prod")
    assert b"sample_rate" in found[0][2]


def test_a_record_that_is_left_to_python_is_decided_once(monkeypatch):
    """The core takes its decision back."""
    one = _dispatcher(monkeypatch, "store = []\n[[sample]]\nkeep_one_of = 3\n", compiled=native.NATIVE)
    undone, undo = [], Sampler.undo
    monkeypatch.setattr(Sampler, "undo", lambda self: undone.append(undo(self)))
    frame = pickle.dumps({"name": "n", "msg": "m", "created": 1.5, "levelno": 20, "x": ["y" * 5_000] * 200}, 4)
    one.run((len(frame).to_bytes(4, "big") + frame) * 6, 0, 6, 1 << 30, PEER, RECEIVED)
    assert one.sampler.take_dropped() == 4
    assert len(undone) == (6 if native.NATIVE else 0)


def test_the_mark_fits_the_room_that_is_reserved_for_it():
    """In a line that is as long as its frame allows."""
    assert (
        len(render_values({"x": 1, "extra": {"sample_rate": 999_999_999}})) - len(render_values({"x": 1})) <= MARK_BYTES
    )

"""Every payload of the corpus: the verdict, what is recovered, what it costs, and the lines that come of it."""

import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.ingest import core
from prefork_logd.inputs.pickles.decode import decode, decode_symbolically
from tests.support import corpus, lines
from tests.support.contained import contained

pytestmark = pytest.mark.slow
REASONS = ("truncated", "malformed", "trailing", "forbidden", "budget", "not-a-record")


def _names(payload):
    return payload.name


def _outcome(data):
    """Return what becomes of a frame: its verdict, with what is missing or the reason."""
    try:
        attributes = decode(data)
    except RecordRejected as rejected:
        well_formed = rejected.reason in REASONS and 0 < len(rejected.detail) < 200
        return {"verdict": "reject" if well_formed else str(rejected), "attributes": {}}
    lines.check_lines(attributes)
    return {"verdict": "accept", "attributes": attributes}


def test_corpus_is_whole():
    """The archive holds what the tests below count on."""
    assert len(corpus.records()) == 512
    assert len(corpus.hostile()) == 166
    assert len(corpus.streams()) == 7


@pytest.mark.parametrize("payload", corpus.hostile(), ids=_names)
def test_hostile_payload_gets_its_verdict_within_the_limits(payload):
    """A payload made to do harm costs little, does nothing, and gets the verdict that the manifest gives."""
    _outcome(corpus.records()[0].data)
    answer = contained(_outcome, payload.data)
    assert answer["events"] == []
    # Cutting takes a hundred times as long without the compiled core, and is bounded by its opcodes (trim.py).
    assert answer["cpu_s"] <= (corpus.CPU_LIMIT_S if core.NATIVE else 8 * corpus.CPU_LIMIT_S)
    assert answer["growth_mib"] <= corpus.MEMORY_LIMIT_MIB
    outcome = answer["result"]
    if payload.expect != "bounded":
        assert outcome["verdict"] == payload.expect
    if payload.expect == "accept":
        assert corpus.missing(payload, outcome["attributes"]) == []


@pytest.mark.parametrize("payload", corpus.records(), ids=_names)
def test_genuine_record_is_kept_whole(payload):
    """What a real client sent is decoded without loss, stored, and the same by the fast path and by the machine."""
    attributes = decode(payload.data)
    assert corpus.missing(payload, attributes) == []
    assert decode_symbolically(payload.data) == attributes
    stored = lines.check_lines(attributes)
    for field in ("created", "name", "levelno", "pathname", "lineno"):
        if field not in payload.lossy:
            assert stored[field] == payload.attributes[field]


def _decode_all():
    for payload in corpus.records():
        lines.check_lines(decode(payload.data))


def test_nothing_is_looked_up_for_genuine_records():
    """No record of the corpus makes the interpreter import, open or look up anything."""
    assert contained(_decode_all)["events"] == []


def test_cycles_of_an_attacker_are_treated_as_those_of_a_client():
    """A list that holds itself is kept, whoever sent it, with a mark where it would begin again."""
    payloads = {payload.name: payload for payload in corpus.frames()}
    assert "<cycle>" in str(decode(payloads["ok-py313-pH-extra-cycle"].data))
    assert "<cycle>" in str(decode(payloads["bomb-cycle-list"].data))
    assert "<cycle>" in str(decode(payloads["bomb-cycle-tuple"].data))


@pytest.mark.parametrize("payload", corpus.records()[::40], ids=_names)
def test_every_prefix_is_rejected(payload):
    """A record cut at any byte is rejected, and a record with anything behind it too."""
    for end in range(len(payload.data)):
        with pytest.raises(RecordRejected):
            decode(payload.data[:end])
    for more in (b"\n", b".", payload.data):
        with pytest.raises(RecordRejected):
            decode(payload.data + more)

from prefork_logd.errors import RecordRejected
from prefork_logd.records import skim
from prefork_logd.records.budget import DEFAULT_BUDGET, Budget, exceeded


def test_text_grows_with_the_frame():
    """A frame of binary data can be kept as text, and small frames have a fixed allowance."""
    assert Budget(text_characters=10, text_per_byte=4).text_for(5) == 30


def test_fast_path_stays_within_the_default_budget():
    """Nothing that the fast path lets through would be refused by the machine."""
    assert DEFAULT_BUDGET.text_characters >= skim.MAX_ITEMS * skim.MAX_BYTES
    assert min(DEFAULT_BUDGET.opcodes, DEFAULT_BUDGET.memo_entries, DEFAULT_BUDGET.nodes) >= skim.MAX_BYTES


def test_verdict():
    """What is exceeded is named."""
    verdict = exceeded("things")
    assert isinstance(verdict, RecordRejected)
    assert (verdict.reason, verdict.detail) == ("budget", "too many or too large: things")

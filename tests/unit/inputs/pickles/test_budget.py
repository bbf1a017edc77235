from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles import flat
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET, Budget, exceeded


def test_the_result_grows_with_the_frame():
    """Any value that is in a frame once fits; values that are referred to many times have a bound of their own."""
    budget = Budget(output_always=30, repeated_bytes=100, nodes=500, nodes_always=10)
    assert [budget.output_for(size) for size in (0, 5, 1_000)] == [30, 110, 6_130]
    assert [budget.nodes_for(size) for size in (0, 5, 1_000)] == [10, 20, 500]


def test_fast_path_stays_within_the_default_budget():
    """Nothing that the fast path lets through would be refused by the machine."""
    assert DEFAULT_BUDGET.nodes_for(0) >= 2 * flat.MAX_ITEMS
    assert min(DEFAULT_BUDGET.opcodes, DEFAULT_BUDGET.memo_entries) >= flat.MAX_BYTES


def test_verdict():
    """What is exceeded is named."""
    verdict = exceeded("things")
    assert isinstance(verdict, RecordRejected)
    assert (verdict.reason, verdict.detail) == ("budget", "too many or too large: things")

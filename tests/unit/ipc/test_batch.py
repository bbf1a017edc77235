"""An answer of the writer comes back as it was sent, and a torn one waits for its rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.ipc.batch import COMMITTED, OPENED, REFUSED, Group, committed, opened, read_answers, refused


@given(st.lists(st.integers(0, 2**64 - 1), max_size=6), st.integers(0, 47))
def test_answers_come_back_in_order(numbers: list[int], cut: int) -> None:
    """Whole answers are read, the rest of a torn one is kept."""
    session = b"0123456789abcdef"
    data = b"".join(map(committed, numbers)) + opened(session, 1, 2, 3) + refused(Group(session, 4, 5, 6, [], []))
    answers, rest = read_answers(data + b"x" * cut)
    assert [answer.a for answer in answers if answer.kind == COMMITTED] == numbers
    assert tuple(answers[-2]) == (OPENED, session, 1, 2, 3)
    assert tuple(answers[-1]) == (REFUSED, session, 4, 5, 6)
    assert rest == b"x" * cut

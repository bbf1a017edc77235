"""The peer that has most loses its least valuable entry, the oldest of these."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.journal.fairness import FairOrder

STEPS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 12), st.integers(0, 3), st.sampled_from([0, 1, 3, 900, 2**40])),
    max_size=120,
)


@given(STEPS)
def test_the_order_is_that_of_a_sorted_list(steps: list[tuple[int, int, int, int]]) -> None:
    """Whatever is added, used and removed: compared with looking through everything."""
    order = FairOrder()
    known: dict[bytes, tuple[int, int]] = {}
    for what, number, peer, worth in steps:
        key = b"%d" % number
        if key not in known:
            order.add(key, peer, worth)
            known[key] = (peer, worth)
        elif what == 0:
            order.remove(key, *known.pop(key))
        else:
            of, before = known.pop(key)
            order.use(key, of, before, worth)
            known[key] = (of, worth)
        counts = {peer: sum(of == peer for of, _ in known.values()) for peer in range(4)}
        assert len(order) == len(known)
        assert counts == {peer: order.count(peer) for peer in range(4)}
        if known:
            first = order.first()
            of, _ = known[first]
            assert counts[of] == max(counts.values())
            ranks = {key: min(worth.bit_length(), 32) for key, (peer, worth) in known.items() if peer == of}
            assert first == min(ranks, key=lambda key: ranks[key])
            assert order.first(of) == first


def test_nothing_is_left_of_peers_that_have_gone() -> None:
    """Peers come and go for years."""
    order = FairOrder()
    for number in range(100):
        order.add(b"key", number, number)
        order.remove(b"key", number, number)
    assert not any((order._ranks, order._counts, order._peers))

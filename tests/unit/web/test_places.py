"""Places go to those who hold fewest; waiting is bounded, in time and in number."""

from __future__ import annotations

import asyncio

import pytest

from prefork_logd.web.places import BusyError, Places


async def hold(places: Places, visitor: str, order: list[str], leave: asyncio.Event) -> None:
    """Take a place, note it, and keep it until the event."""
    async with places.place(visitor):
        order.append(visitor)
        await leave.wait()


def test_one_visitor_keeps_nobody_from_a_place() -> None:
    """The next free place is for somebody who holds none, though others of the first visitor came before."""

    async def main() -> None:
        places = Places(2, wait_s=10, most_waiting=8)
        order: list[str] = []
        leave = [asyncio.Event() for _ in range(6)]
        visitors = ["greedy"] * 4 + ["ada", "bob"]
        tasks = [
            asyncio.ensure_future(hold(places, visitor, order, event))
            for visitor, event in zip(visitors, leave, strict=True)
        ]
        await asyncio.sleep(0.01)
        assert order == ["greedy", "greedy"]
        leave[0].set()
        await tasks[0]
        await asyncio.sleep(0.01)
        assert order[2:] == ["ada"]
        leave[1].set()
        await tasks[1]
        await asyncio.sleep(0.01)
        # Now "ada" holds one place, and "greedy" none: the first to come goes first.
        assert order[3:] == ["greedy"]
        for event in leave:
            event.set()
        await asyncio.gather(*tasks)
        assert sorted(order) == sorted(visitors)

    asyncio.run(main())


def test_the_waiting_are_bounded() -> None:
    """One visitor may be half of them; who waits for too long is refused, and so is one above its places."""

    async def main() -> None:
        places = Places(1, wait_s=0.05, most_waiting=4)
        async with places.place("a"):
            waiting = [asyncio.ensure_future(places.place("a").__aenter__()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(BusyError):
                await places.place("a").__aenter__()
            waiting += [asyncio.ensure_future(places.place("b").__aenter__()) for _ in range(2)]
            await asyncio.sleep(0)
            with pytest.raises(BusyError):
                await places.place("c").__aenter__()
            assert {type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)} == {BusyError}
        one = Places(2, wait_s=0.05, most_waiting=4, most_of_one=1)
        async with one.place("a"), one.place("b"):
            pass
        async with one.place("a"):
            with pytest.raises(BusyError):
                await one.place("a").__aenter__()
            async with one.place("b"):
                pass

    asyncio.run(main())


def test_a_place_of_somebody_who_has_gone_is_free() -> None:
    """Also if it was given in the same moment."""

    async def main() -> None:
        places = Places(1, wait_s=10, most_waiting=4)
        for is_late in (False, True):
            first, second = places.place("a"), places.place("b")
            await first.__aenter__()
            waiting = asyncio.ensure_future(second.__aenter__())
            await asyncio.sleep(0.01)
            if is_late:
                await first.__aexit__(None, None, None)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            if not is_late:
                await first.__aexit__(None, None, None)
            async with asyncio.timeout(5), places.place("c"):
                pass

    asyncio.run(main())


def test_of_one_visitor_the_lowest_rank_comes_first() -> None:
    """Of equal ranks the first to come; those of another visitor who holds fewer come before all of them."""

    async def main() -> None:
        places = Places(1, wait_s=10, most_waiting=20)
        order: list[str] = []

        async def note(visitor: str, rank: int) -> None:
            await places.take(visitor, rank)
            order.append(f"{visitor}{rank}")
            places.give_back(visitor)

        await places.take("a")
        tasks = [asyncio.ensure_future(note(*one)) for one in (("a", 2), ("a", 1), ("a", 0), ("b", 9), ("a", 1))]
        await asyncio.sleep(0)
        places.give_back("a")
        await asyncio.gather(*tasks)
        assert order == ["a0", "a1", "a1", "a2", "b9"]

    asyncio.run(main())

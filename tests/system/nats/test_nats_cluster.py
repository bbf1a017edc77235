"""Three servers, edges, central collectors: what is killed and cut costs no record; `make cluster` does more."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.support.harness import wait_for
from tests.support.nats_servers import Cluster
from tests.torture.cluster import FAULTS, World

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two edges, a cluster, a central collector, for all tests; none of them may say that it has a bug."""
    directory = tmp_path_factory.mktemp("world")
    world = World(directory, Cluster(directory).start())
    try:
        yield world.start()
        assert not [
            line for each in (*world.edges, *world.centrals) for line in each.log.splitlines() if "Trace" in line
        ]
    finally:
        world.close()


def test_servers_and_collectors_are_killed(world: World) -> None:
    """Two servers at once, the leader among them, and meanwhile both kinds of collectors: each record once."""
    with world.flow():
        world.log(100)
        leader = world.cluster.leader("LOGS")
        killed = [leader, next(server for server in world.cluster.servers if server is not leader)]
        for server in killed:
            server.kill()
        # Each is acknowledged by its edge; the one server that is left takes nothing.
        world.log(100)
        world.kill(world.edges[0])
        world.kill(world.centrals[0])
        wait_for(lambda: world.lag() >= 200, "records wait in the edges")
        for server in killed:
            server.start()
        world.log(100)
    world.check()
    wait_for(lambda: world.lag() == 0, "no record waits")


def test_links_and_the_leader_fail(world: World) -> None:
    """One fault after another, each under load: every record once, and in order per session, after each."""
    for what in (
        "the edges' links are cut, and come back",
        "acknowledgements are lost: what servers say does not arrive, then the link is cut",
        "everything is delivered again",
        "an edge is killed",
        "a central collector is killed",
        "the leader is killed and comes back",
    ):
        with world.flow():
            world.log(100)
            FAULTS[what](world, random.Random(what))
            world.log(100)
        world.check()
    wait_for(lambda: world.lag() == 0, "no record waits")

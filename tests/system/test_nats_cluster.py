"""Three servers, edges, central collectors: what is killed costs no record; `make cluster` kills and cuts more."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.nats_servers import Cluster
from tests.system.cluster import World
from tests.system.harness import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def test_servers_and_collectors_are_killed(tmp_path: Path) -> None:
    """Two servers at once, the leader among them, and meanwhile both kinds of collectors: each record once."""
    world = World(tmp_path, Cluster(tmp_path).start())
    try:
        world.start()
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
        assert not [
            line for each in (*world.edges, *world.centrals) for line in each.log.splitlines() if "Trace" in line
        ]
    finally:
        world.close()

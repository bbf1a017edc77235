"""Three servers, two edges, a central collector: the leader is killed, and the central collector; each record once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.nats_servers import Cluster
from tests.system.cluster import World
from tests.system.harness import wait_for

if TYPE_CHECKING:
    from pathlib import Path


def test_servers_and_collectors_are_killed(tmp_path: Path) -> None:
    """Records wait where they are safe, and arrive once; `make cluster` does everything else."""
    world = World(tmp_path, Cluster(tmp_path).start())
    try:
        world.start()
        world.log(100)
        leader = world.cluster.leader("LOGS")
        leader.kill()
        world.log(100)
        leader.start()
        world.kill(world.centrals[0])
        world.log(100)
        world.check()
        wait_for(lambda: world.lag() == 0, "no record waits")
        assert not [
            line for each in (*world.edges, *world.centrals) for line in each.log.splitlines() if "Trace" in line
        ]
    finally:
        world.close()

"""Outputs and stores keep their slots on the scoreboard, and configurations stay as long as they are needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from prefork_logd.errors import ConfigError
from prefork_logd.ipc.scoreboard import PLACES, STORE_PLACES, LimitField, OutputField, Scoreboard
from prefork_logd.processes.master.configurations import Configurations
from tests.support.children import make_settings

if TYPE_CHECKING:
    from pathlib import Path

    from prefork_logd.config.settings import Settings

BOARD = Scoreboard()


def _outputs(state_dir: Path, *names: str) -> Settings:
    return make_settings(state_dir, "".join(f'[[output]]\npath = "{name}.jsonl"\n' for name in names))


def _stores(state_dir: Path, *names: str) -> Settings:
    return make_settings(
        state_dir,
        "".join(f'[[store]]\ntype = "parquet"\nname = "{name}"\npath = "{name}"\n' for name in names),
    )


def _slots(configurations: Configurations) -> dict[str, int]:
    current = configurations.current
    return {
        output.path.rsplit("/", 1)[-1].removesuffix(".jsonl"): slot
        for output, slot in zip(current.settings.output, current.output_ids, strict=True)
    }


def test_an_output_keeps_its_slot_and_a_new_one_gets_the_next(tmp_path: Path) -> None:
    """A slot that was used a moment ago is used again last: late lines must not reach another output."""
    configurations = Configurations(BOARD)
    configurations.add(_outputs(tmp_path, "a", "b"), ())
    assert (configurations.current.generation, _slots(configurations)) == (1, {"a": 1, "b": 2})
    configurations.add(_outputs(tmp_path, "b"), ())
    configurations.forget_settled([2])
    configurations.add(_outputs(tmp_path, "b", "c"), ())
    assert (configurations.current.generation, _slots(configurations)) == (3, {"b": 2, "c": 3})
    assert configurations.last_output_id == 3
    full = Configurations(BOARD, last_output_id=PLACES)
    full.add(_outputs(tmp_path, "a"), ())
    assert _slots(full) == {"a": 1}


def test_the_slot_of_a_removed_output_is_taken_while_an_older_configuration_has_it(tmp_path: Path) -> None:
    """It may come back to its own slot meanwhile, with its own counters."""
    configurations = Configurations(BOARD)
    configurations.add(_outputs(tmp_path, "a", "b"), ())
    configurations.last_output_id = PLACES
    configurations.add(_outputs(tmp_path, "b"), ())
    configurations.add(_outputs(tmp_path, "b", "c"), ())
    assert _slots(configurations) == {"b": 2, "c": 3}, "the first slot is still the one of a"
    BOARD.output(1)[OutputField.RECORDS] = 7
    configurations.add(_outputs(tmp_path, "a", "b", "c"), ())
    assert _slots(configurations)["a"] == 1
    assert BOARD.output(1)[OutputField.RECORDS] == 7


def test_a_new_output_counts_from_zero(tmp_path: Path) -> None:
    """Whatever another output has counted in its slot before."""
    BOARD.output(1)[OutputField.RECORDS] = BOARD.output(2)[OutputField.RECORDS] = 7
    Configurations(BOARD).add(_outputs(tmp_path, "a"), ())
    assert [BOARD.output(slot)[OutputField.RECORDS] for slot in (1, 2)] == [0, 7]


def test_a_limit_keeps_its_slot_and_counters_by_its_name(tmp_path: Path) -> None:
    """Workers may still count in the slot of a removed one while an older configuration has it."""
    board = Scoreboard()
    configurations = Configurations(board)

    def add(*names: str) -> dict[str, int]:
        toml = "".join(f'[[limit]]\nname = "{name}"\nconnections = 1\n' for name in names)
        configurations.add(make_settings(tmp_path, toml), ())
        current = configurations.current
        assert [configurations.limit_ids[limit.name] for limit in current.settings.limit] == list(current.limit_ids)
        return configurations.limit_ids

    assert add("a", "b") == {"a": 0, "b": 1}
    for slot in range(3):
        board.limit(1, slot)[LimitField.DROPPED] = 7
    assert add("b", "c") == {"b": 1, "c": 2}
    configurations.forget_settled([2])
    assert [board.limit(1, slot)[LimitField.DROPPED] for slot in range(3)] == [7, 7, 0]
    assert add("d", "c", "b") == {"b": 1, "c": 2, "d": 0}
    assert [board.limit(1, slot)[LimitField.DROPPED] for slot in range(3)] == [0, 7, 0]


@pytest.mark.slow
def test_with_too_many_new_outputs_nothing_changes(tmp_path: Path) -> None:
    """The reload fails, and says what to do; all that was configured stays."""
    configurations = Configurations(BOARD)
    most = PLACES // 2
    configurations.add(_outputs(tmp_path, *(f"a{number}" for number in range(most))), ())
    configurations.add(_outputs(tmp_path, *(f"b{number}" for number in range(most))), ())
    before = dict(configurations.output_ids), configurations.last_output_id
    BOARD.output(1)[OutputField.RECORDS] = 7
    with pytest.raises(ConfigError, match=r"1 of them are new, too many at once; reload in two steps"):
        configurations.add(_outputs(tmp_path, "c"), ())
    assert (configurations.output_ids, configurations.last_output_id) == before
    assert BOARD.output(1)[OutputField.RECORDS] == 7
    assert configurations.current.generation == 2
    assert configurations.forget_settled([2]) == 2
    configurations.add(_outputs(tmp_path, "c"), ())
    assert configurations.current.generation == 3


def test_a_store_keeps_its_slot_by_its_name(tmp_path: Path) -> None:
    """Slots of shippers that have not ended are not given to another store."""
    busy: set[int] = set()
    configurations = Configurations(BOARD)
    configurations.add(_stores(tmp_path, "days", "weeks"), busy)
    assert configurations.current.store_ids == (0, 1)
    busy.update({0, 1})
    configurations.add(_stores(tmp_path, "weeks", "years"), busy)
    assert configurations.current.store_ids == (1, 2)
    busy.remove(0)
    configurations.add(_stores(tmp_path, "weeks", "hours"), busy)
    assert configurations.current.store_ids == (1, 0)
    busy.update(range(STORE_PLACES))
    with pytest.raises(ConfigError, match="1 of them are new, too many at once"):
        configurations.add(_stores(tmp_path, "minutes"), busy)
    assert configurations.current.store_ids == (1, 0)


def test_a_configuration_is_kept_while_a_worker_may_have_lines_of_it(tmp_path: Path) -> None:
    """The slowest worker decides; without workers, only the current one is kept."""
    configurations = Configurations(BOARD)
    for _ in range(4):
        configurations.add(_outputs(tmp_path, "a"), ())
    assert configurations.forget_settled([4, 1, 3]) is None
    assert configurations.forget_settled([4, 3]) == 3
    assert [kept.generation for kept in configurations.kept] == [3, 4]
    assert configurations.forget_settled([4, 3]) is None
    assert configurations.forget_settled([]) == 4
    assert [kept.generation for kept in configurations.kept] == [4]


def test_slots_go_on_after_an_upgrade(tmp_path: Path) -> None:
    """The next generation follows the inherited one, and an output finds its slot again."""
    first = Configurations(BOARD)
    first.add(_outputs(tmp_path, "a", "b"), ())
    then = Configurations(BOARD, first.kept, first.output_ids, first.last_output_id)
    then.add(_outputs(tmp_path, "b", "c"), ())
    assert (then.current.generation, _slots(then)) == (2, {"b": 2, "c": 3})

"""The calculation for fleets: its formulae by hand, what it must never say, and the answer that the docs show."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import sizing  # noqa: E402

sys.path.pop(0)

MEASURED = sizing.Figures(
    ingest=400_000, to_stream=300_000, to_file=200_000, edge_cpu_s=4, servers_cpu_s=0.5, reading_cpu_s=1,
    central_cpu_s=2, messages_in=10_000, messages_out=8_000, messages_of_many=5_000, message_cpu_s=80, parquet=100_000,
    postgresql=40_000, parquet_bytes=300, nats_from="n", edges_from="e", parquet_from="s", postgresql_from="p",
)  # fmt: skip


def answer(**fleet: Any) -> dict[str, float]:
    """Return the lines by their names, those that belong to one above by both."""
    found, above = {}, ""
    for line in sizing.size(sizing.Fleet(**fleet), MEASURED):
        above = above if line.key.startswith(" ") else line.key
        found[line.key if above == line.key else above + line.key.replace("  ", ": ")] = line.value
    return found


def test_ten_thousand_hosts_with_shared_edges() -> None:
    """Every figure as on paper."""
    found = answer(hosts=10_000, rate=20, nbytes=500)
    assert found == pytest.approx({
        "records/s, mean": 200_000, "records/s, peak": 600_000,
        "edges, shared": 17, "edges, shared: for the peak": 4, "edges, shared: for connections": 16,
        "edges, shared: CPU of each, peak": 600_000 / 17 * 4 / 1e6 * 100,
        "edges, shared: journal of each": 200_000 / 17 * 500 * (300 + 4 * 3600) / 1e9,
        "messages/s": 170,
        "streams": 4, "streams: for the peak": 4, "streams: for messages": 1,
        "streams: into one, peak": 15, "streams: out of its leader": 45,
        "cores of all servers, peak": 0.9 + 170 * 80e-6,
        "disk of a replica, a day": 1728, "disk of a replica, a day: of all, while kept": 1728 * 21,
        "central collectors, file": 3, "central collectors, file: for the mean": 2,
        "central collectors, file: for messages": 1, "central collectors, file: cores of all, mean": 0.4,
        "central collectors, file: disk of all, a day": 8640,
        "central collectors, file: behind after a peak hour": 200_000 * 3600 / 1e6,
        "central collectors, file: and back after": 1,
    })  # fmt: skip


def test_an_edge_on_each_host_makes_small_messages() -> None:
    """Then messages decide, and batch_time is what helps."""
    quick = answer(hosts=10_000, rate=20, nbytes=500, edges="host", store="parquet")
    assert (quick["messages/s"], quick["streams"], quick["central collectors, parquet"]) == (100_000, 20, 41)
    assert quick["central collectors, parquet: disk of all, a day"] == pytest.approx(200_000 * 86_400 * 300 / 1e9)
    slow = answer(hosts=10_000, rate=20, nbytes=500, edges="host", store="parquet", batch_s=5)
    assert (slow["messages/s"], slow["streams"], slow["central collectors, parquet"]) == (2_000, 4, 5)


@given(
    st.integers(1, 100_000), st.floats(0.01, 1000), st.sampled_from(["shared", "host"]),
    st.sampled_from(["file", "parquet", "postgresql"]), st.floats(0.05, 60), st.floats(0.1, 0.9),
)  # fmt: skip
def test_more_hosts_never_need_less(
    hosts: int, rate: float, edges: str, store: str, batch_s: float, use: float
) -> None:
    """Whatever is asked: nothing is negative or infinite, and twice the hosts need as much, at least."""
    one, two = (
        answer(hosts=count, rate=rate, nbytes=600, edges=edges, store=store, batch_s=batch_s, use=use)
        for count in (hosts, 2 * hosts)
    )
    for key, value in one.items():
        assert 0 <= value < float("inf"), key
        if not key.endswith(("of each", "of each, peak", "into one, peak", "its leader", "peak hour", "back after")):
            assert two[key] >= value, key


def test_the_kept_results_can_be_read() -> None:
    """Every figure comes from a result that is kept, for one and for three replicas."""
    for replicas in (1, 3):
        for value in sizing.figures(replicas):
            assert value
    with pytest.raises(FileNotFoundError, match=r"run benchmarks/bench_nothing\.py"):
        sizing.newest("nothing", "runs")
    with pytest.raises(FileNotFoundError):
        sizing.newest("nats", "publishing", "2025-01-01")


def test_a_result_of_a_part_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest one that has what is wanted counts."""
    monkeypatch.setattr(sizing, "RESULTS", tmp_path)
    for minute, part in ((1, "runs"), (2, "runs"), (3, "burst")):
        (tmp_path / f"2026-01-01-000{minute}-stores.json").write_text(f'{{"results": {{"{part}": {minute}}}}}')
    assert sizing.newest("stores", "runs")[0]["results"] == {"runs": 2}
    assert sizing.newest("stores", "runs", "2026-01-01-0001")[1] == "2026-01-01-0001-stores.json"


@pytest.mark.slow
def test_the_answers_in_the_docs_are_what_it_says() -> None:
    """Each command in docs/scaling.md prints what stands below it."""
    page = (ROOT / "docs" / "scaling.md").read_text()
    shown = re.findall(r"```\n\$ python (benchmarks/sizing\.py[^\n]*)\n(.*?)```", page, re.DOTALL)
    assert len(shown) >= 2
    for command, output in shown:
        done = subprocess.run(
            [sys.executable, *shlex.split(command)], capture_output=True, text=True, cwd=ROOT, check=True
        )
        assert done.stdout == output


@pytest.mark.parametrize("wrong", ["--hosts 0", "--use 1.5", "--batch-time 0"])
def test_nonsense_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With a word about what is wrong."""
    with pytest.raises(SystemExit):
        sizing.parse(["--hosts", "1", "--rate", "1", "--bytes", "1", *wrong.split()])
    assert "must be" in capsys.readouterr().err

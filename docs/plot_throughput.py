"""Draw docs/throughput.svg from a kept result of bench_throughput.py: `python docs/plot_throughput.py RESULT.json`.

One bar for each server at one number of connections, the median of its runs, with a line from the least to the most.
"""

from __future__ import annotations

import json
import statistics
import sys
from html import escape
from pathlib import Path

LEFT, WIDTH, ROW, TOP = 300, 520, 30, 56
OURS, OTHERS, INK = "#2f6f4f", "#9aa5ad", "#30363b"


def draw(result: dict, connections: str) -> str:
    """Return the picture of one set of runs as SVG."""
    runs = result["results"][f"{connections} connections"]
    rates = {name: sorted(trial["records_per_s"] for trial in trials) for name, trials in runs.items()}
    names = sorted(rates, key=lambda name: -statistics.median(rates[name]))
    most = max(values[-1] for values in rates.values())
    height = TOP + ROW * len(names) + 16
    machine = result["machine"]
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 130}" height="{height}" '
            f'font-family="sans-serif" font-size="13" fill="{INK}">'
        ),
        f'<text x="12" y="22" font-size="15">Records a second, {connections} connections, into a file</text>',
        (
            f'<text x="12" y="42">{escape(machine["cpu"])}, {machine["cores"]} cores, generator included; '
            f"{escape(result['time'][:10])}; medians of {len(next(iter(rates.values())))}, least to most</text>"
        ),
    ]
    for index, name in enumerate(names):
        values = rates[name]
        middle, y = statistics.median(values), TOP + ROW * index
        scale = WIDTH / most
        fill = OURS if name.startswith("prefork-logd") else OTHERS
        parts += [
            f'<text x="{LEFT - 10}" y="{y + 16}" text-anchor="end">{escape(name)}</text>',
            f'<rect x="{LEFT}" y="{y + 3}" width="{middle * scale:.1f}" height="18" fill="{fill}"/>',
            (
                f'<line x1="{LEFT + values[0] * scale:.1f}" x2="{LEFT + values[-1] * scale:.1f}" '
                f'y1="{y + 12}" y2="{y + 12}" stroke="{INK}" stroke-width="1.5"/>'
            ),
            f'<text x="{LEFT + values[-1] * scale + 8:.1f}" y="{y + 16}">{middle:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    source = Path(sys.argv[1])
    chosen = sys.argv[2] if len(sys.argv) > 2 else "100"
    picture = draw(json.loads(source.read_text()), chosen)
    Path(__file__).with_name("throughput.svg").write_text(picture)

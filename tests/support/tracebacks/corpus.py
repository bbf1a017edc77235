"""Makes and reads the corpus of tracebacks: errors of `shop` under nine Pythons, from two releases of it.

`python -m tests.support.tracebacks.corpus` writes tests/data/tracebacks.jsonl.xz anew; a key that is in the file
already stays, so a changed fingerprint is an error of the tests. Needs Python 2.7 and 3.6 to 3.13.
"""

from __future__ import annotations

import functools
import json
import lzma
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from prefork_logd.query.fingerprints import fingerprint
from tests.support.interpreters import found

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
FILE = ROOT / "tests" / "data" / "tracebacks.jsonl.xz"
VERSIONS = ("2.7", "3.6", "3.7", "3.8", "3.9", "3.10", "3.11", "3.12", "3.13")
RELEASES = (1, 2)
NUMBER = 17


def raise_errors(python: str, directory: Path, release: int, number: int) -> list[dict[str, Any]]:
    """Return each error of a release under an interpreter; the second release has its code some lines further down."""
    home = directory / f"releases-{release}" / "shop"
    packages = home / "lib" / "python3" / "site-packages"
    for source, target in ((HERE / "shop", home / "shop"), (HERE / "vendored", packages / "vendored")):
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        for path in target.rglob("*.py"):
            path.write_text(f"# coding: utf-8\n{'#' * 9}\n" * 7 * (release - 1) + path.read_text())
    command = [python, HERE / "record.py", ROOT / "prefork_logd", home, str(number)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    # No path of the machine that made the corpus.
    named = {str(home): f"/srv/releases/{release}", str(HERE): "/srv", str(Path(python).resolve().parents[1]): "/opt"}
    text = functools.reduce(lambda text, one: text.replace(one, named[one]), named, done.stdout)
    return [json.loads(line) for line in text.splitlines()]


@functools.cache
def read() -> list[dict[str, Any]]:
    """Return the corpus: records with `name`, `python`, `release`, `key`, `exc_text` and `exception`."""
    return [json.loads(line) for line in lzma.decompress(FILE.read_bytes()).splitlines()]


def main() -> None:
    """Write the corpus."""
    known = {(one["name"], one["python"]): one["key"] for one in read()} if FILE.exists() else {}
    lines = []
    for version in VERSIONS:
        with tempfile.TemporaryDirectory() as directory:
            for release in RELEASES:
                for one in raise_errors(found()[version], Path(directory), release, NUMBER * release):
                    text_only = {"exc_text": one["exc_text"]}
                    key = known.get((one["name"], version)) or fingerprint(text_only)
                    lines.append(json.dumps({"python": version, "release": release, "key": key, **one}))
    FILE.write_bytes(lzma.compress("\n".join(lines).encode(), preset=9))
    sys.stdout.write(f"{FILE}: {len(lines)} tracebacks\n")


if __name__ == "__main__":
    main()

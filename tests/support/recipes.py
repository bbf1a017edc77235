"""Reads the recipes of docs/recipes.md, runs them as a reader would, and compares what is stored with the page.

A recipe is a section of the page. A block of code whose first line is a comment with a name is that file, a line that
starts with "$ " is its command, and a line of JSON is a stored record. Only ports and the spool's folder are replaced.
With TEST_WRITE_RECIPES=1 the page gets the records that were stored, instead of being compared with them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.harness import session_of, wait_for

if TYPE_CHECKING:
    from tests.support.harness import Collector

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "recipes.md"
WRITES = os.environ.get("TEST_WRITE_RECIPES") == "1"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"\A# (\w+\.py)\n")
_SERVING = re.compile(r"(?:Running on|Listening at:|Uvicorn running on) http://127\.0\.0\.1:(\d+)")
_FOLDER, _PACKAGES, _LIBRARY = "/srv/shop", "/srv/venv/lib/python3.11/site-packages", "/usr/lib/python3.11"
_HOST = "web1"
_VOLATILE = {"created", "time", "lineno", "process", "processName", "thread", "threadName", "peer", "received", "host"}
_NUMBER = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\d+(?:\.\d+)?")


def sections() -> dict[str, str]:
    """Return the recipes of the page by their titles."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text(), flags=re.MULTILINE)
    return {title: text for title, text in zip(parts[1::2], parts[2::2], strict=True) if _BLOCK.search(text)}


def files_of(section: str) -> dict[str, str]:
    """Return the files of a recipe by their names."""
    return {named[1]: text for _, text in _BLOCK.findall(section) if (named := _NAME.match(text))}


class Recipe:
    """One recipe in a folder of its own, for one collector; `end` ends what it has started."""

    def __init__(self, title: str, folder: Path, collector: Collector) -> None:
        """Write the files of a recipe."""
        self.title, self.folder, self.collector = title, folder, collector
        section = sections()[title]
        self.files = files_of(section)
        self.command = "".join(re.findall(r"^\$ (.+)$", section, re.MULTILINE))
        self.shown: list[dict[str, Any]] = [json.loads(line) for line in re.findall(r"^\{.+$", section, re.MULTILINE)]
        self._services: list[subprocess.Popen[bytes]] = []
        self.environment = {**os.environ, "PYTHONPATH": str(folder), "HOME": str(folder)}
        folder.mkdir()
        # Services install the handler alone, under this name.
        (folder / "prefork_logd_handler").symlink_to(ROOT / "prefork_logd" / "handlers")
        for name, text in self.files.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        """Write a file, with the collector's port and the folder for spools."""
        text = text.replace("9020", str(self.collector.address()[1])).replace("/var/spool/shop", f"{self.folder}/spool")
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(self, *more: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start the command of the page, in a session of its own; what it prints is in the file `output`.

        A later option of `more` takes the place of the page's.
        """
        words = [word.replace(":8000", ":0") for word in shlex.split(self.command)] + [*more]
        words = ["0" if word == "8000" else word for word in words]
        # The command itself: that of the environment is a script with the first line of another machine, perhaps.
        words[0] = sys.executable if words[0] == "python" else str(Path(sys.executable).with_name(words[0]))
        with (self.folder / "output").open("ab") as output:
            service = subprocess.Popen(
                words, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={**self.environment, **(env or {})},
            )  # fmt: skip
        self._services.append(service)
        return service

    def restart_collector(self) -> None:
        """Start the collector, which a test has stopped, at the same address."""
        host, port = self.collector.address()
        self.collector.configure(f'[server]\nbind = ["{host}:{port}"]\n')
        self.collector.start()

    def run(self) -> None:
        """Run the command of the page to its end; fail if it prints anything or ends with another status than 0."""
        status = self.start().wait(60)
        assert (status, self.output) == (0, "")

    @property
    def output(self) -> str:
        """What the commands have printed."""
        path = self.folder / "output"
        return path.read_text() if path.exists() else ""

    def stop(self, service: subprocess.Popen[bytes], number: int = signal.SIGTERM) -> int:
        """Send a signal to a service, and return its exit status once it has ended."""
        service.send_signal(number)
        return service.wait(30)

    def end(self) -> None:
        """Kill everything that is left of the commands, which have a session each."""
        sessions = {service.pid for service in self._services}
        for entry in Path("/proc").glob("[0-9]*"):
            if session_of(entry) in sessions:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)
        for service in self._services:
            service.wait(30)

    def get(self, path: str) -> int:
        """Ask the service for a page, and return the status of the answer."""

        def port() -> str:
            said = [record["message"] for record in self.seen()] + [self.output]
            return next((found[1] for text in said if (found := _SERVING.search(text))), "")

        url = f"http://127.0.0.1:{wait_for(port, f'serving, but it printed {self.output}')}{path}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                answer.read()
                return answer.status
        except urllib.error.HTTPError as error:
            error.close()
            return error.code

    def seen(self) -> list[dict[str, Any]]:
        """Return what is stored by now; the last line may be there in part."""
        return [json.loads(line) for line in self.collector.lines() if line.endswith(b"\n")]

    def stored(self, count: int, *uncounted: str) -> list[dict[str, Any]]:
        """Return what is stored once it is so many records; fail if it is not exactly these, or not as the page shows.

        Records of some loggers, those of the framework, are not counted, but none may be there twice; nor is that of
        the handler about a collector that takes more than 5 s to restart. The collector is stopped before the records
        are counted: nothing comes later.
        """
        uncounted += ("prefork_logd.handlers",)

        def counted() -> list[str]:
            return [record["message"] for record in self.seen() if record["name"] not in uncounted]

        wait_for(lambda: len(counted()) >= count, f"{count} records: {counted()}, {self.output}")
        assert self.collector.stop() == 0
        assert len(counted()) == count, counted()
        records = self.collector.records()
        assert len({json.dumps({**record, "received": 0}) for record in records}) == len(records)
        assert self.collector.rejected() == []
        assert {(record["service"], record["host"]) for record in records} == {("shop", socket.gethostname())}
        if WRITES:
            self._write_page(records)
        steady = [_steady(self._placed(record)) for record in records]
        for shown in map(_steady, self.shown):
            alike = [record for record in steady if record["message"] == shown["message"]]
            found = [{name: record.get(name) for name in shown} for record in alike]
            assert shown in found, "the page shows another record"
        return records

    def _placed(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return a record with the paths that the page has."""
        text = json.dumps(record, ensure_ascii=False)
        for there, here in (
            (str(self.folder), _FOLDER),
            (sysconfig.get_path("purelib"), _PACKAGES),
            (sysconfig.get_path("stdlib"), _LIBRARY),
        ):
            text = text.replace(there, here)
        placed: dict[str, Any] = {**json.loads(text), "host": _HOST}
        return placed

    def _write_page(self, records: list[dict[str, Any]]) -> None:
        """Put stored records in place of those that the page shows in this section."""
        section = sections()[self.title]
        new = section
        for number, shown in enumerate(self.shown):
            alike = [r for r in map(self._placed, records) if _steady(r)["message"] == _steady(shown)["message"]]
            found = next((r for r in alike if r["message"] == shown["message"]), alike[0])
            for line in section.splitlines():
                if line.startswith("{") and json.loads(line) == shown:
                    new = new.replace(line, json.dumps(found, ensure_ascii=False, separators=(",", ":")))
            self.shown[number] = found
        PAGE.write_text(PAGE.read_text().replace(section, new))


def _steady(record: dict[str, Any]) -> dict[str, Any]:
    """Return what of a record is the same in each run: its texts without their numbers, tracebacks without middles."""
    steady = {name: _without_numbers(value) for name, value in record.items() if name not in _VOLATILE}
    if not record.get("pathname", "").startswith(_FOLDER):
        # Where another version of the framework logs it.
        for name in ("pathname", "filename", "module", "funcName"):
            steady.pop(name, None)
    if "exc_text" in steady:
        lines = steady["exc_text"].splitlines()
        steady["exc_text"] = [lines[0], lines[-1]]
    return steady


def _without_numbers(value: Any) -> Any:
    if isinstance(value, str):
        return _NUMBER.sub("0", value)
    if isinstance(value, dict):
        return {key: _without_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_numbers(each) for each in value]
    return 0 if isinstance(value, (int, float)) and not isinstance(value, bool) else value

"""Keeps the states of alerts, their incidents and the notices that wait, in alerts.db.

Owns what is one transaction: the states after an evaluation, and the notices that follow. So each notice is made once,
whenever the process is killed. Does not know how rules are evaluated (engine.py) or notices sent (sending.py).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd.alerts import notices, schema, states
from prefork_logd.alerts.by_value import value_of
from prefork_logd.alerts.clock import Era, Saved
from prefork_logd.config.alerts import AlertSettings
from prefork_logd.system.log import RateLimitedLog
from prefork_logd.system.sqlite import failing_as_store_error, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from prefork_logd.alerts.clock import AlertClock
    from prefork_logd.alerts.findings import Finding, Findings
    from prefork_logd.alerts.missed import Past
    from prefork_logd.alerts.states import Condition, Step
    from prefork_logd.config.settings import Settings

MOST_WAITING = 10_000
"""Notices that wait. With more, states do not change: their notices are made when there is room."""
MOST_INCIDENTS = 5_000
"""Incidents that are kept; the oldest ones that are over are removed, with their notices."""
KEPT_TESTS_S = 3_600.0
_MOST_REMOVED = 500
_NOWHERE = -1
"""The position of a rule that could not be evaluated yet."""
_log = RateLimitedLog()

_decode_settings = msgspec.json.Decoder(AlertSettings).decode
_read_eras = msgspec.json.Decoder(tuple[Era, ...]).decode


class Ledger:
    """The database, as the process of the alerts writes it. Every method raises StoreError."""

    def __init__(self, path: Path, settings: Settings) -> None:
        """Open the file, or make it."""
        self._path = path
        self._alerts = settings.alerts
        self.db: sqlite3.Connection = schema.connect(path)

    def close(self) -> None:
        """Close the file; never raises."""
        self.db.close()

    def version(self) -> int:
        """Return a number that changes when another connection has changed the file."""
        return int(self._one("PRAGMA data_version")[0])

    def _one(self, statement: str, values: tuple[Any, ...] = ()) -> Any:
        with failing_as_store_error(self._path):
            return self.db.execute(statement, values).fetchone()

    def _all(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        with failing_as_store_error(self._path):
            return self.db.execute(statement, values).fetchall()

    # The clock

    def clock(self) -> tuple[Saved, str, float] | None:
        """Return the clock, the run of the collector, and when it began to listen; None in a new file."""
        row = self._one("SELECT boot, monotonic, ticks, number, eras, run, listening FROM clock")
        if row is None:
            return None
        boot, monotonic, ticks, number, eras, run, listening = row
        return Saved(boot, monotonic, ticks, number, _read_eras(eras)), run, listening

    def save_clock(self, clock: AlertClock, run: str, listening: float) -> None:
        """Keep the clock."""
        with failing_as_store_error(self._path), transaction(self.db):
            self._save_clock(clock, run, listening)

    def _save_clock(self, clock: AlertClock, run: str, listening: float) -> None:
        boot, monotonic, ticks, number, eras = clock.saved()
        self.db.execute(
            "INSERT OR REPLACE INTO clock VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
            (boot, monotonic, ticks, number, run, listening, msgspec.json.encode(eras)),
        )

    # Rules

    def page_rules(self) -> list[AlertSettings]:
        """Return the rules that were made on the page."""
        found = self._all("SELECT name, settings FROM rules ORDER BY name")
        return [rule for name, data in found if (rule := read_rule(name, data)) is not None]

    def is_silenced(self, rule: str, wall: float) -> bool:
        """Tell whether a rule is silenced."""
        row = self._one("SELECT until FROM silences WHERE rule = ?", (rule,))
        return row is not None and row[0] > wall

    def position(self, rule: AlertSettings) -> int | None:
        """Return the last event of groups that the rule has looked at; None for a rule that is new or has changed."""
        row = self._one("SELECT settings, position FROM evaluations WHERE rule = ?", (rule.name,))
        before = read_rule(rule.name, row[0]) if row is not None else None
        return row[1] if before is not None and row[1] != _NOWHERE and _subject(before) == _subject(rule) else None

    def conditions(self, rule: str) -> dict[str, Condition]:
        """Return the conditions that hold, by their keys."""
        found = self._all("SELECT key, since, incident, told, repeats FROM conditions WHERE rule = ?", (rule,))
        return {key: states.Condition(*rest) for key, *rest in found}

    def open_keys(self, rule: AlertSettings) -> Collection[str]:
        """Return the keys that have a state; none if the rule is about something else than before."""
        return self.conditions(rule.name) if self.position(rule) is not None else ()

    def gap_s(self, rule: AlertSettings, ticks: float) -> float:
        """Return for how long the rule was not evaluated; 0 for one that was not yet, or is about something else."""
        row = self._one("SELECT ticks FROM evaluations WHERE rule = ?", (rule.name,))
        is_known = row is not None and row[0] >= 0 and self.position(rule) is not None
        return max(0.0, ticks - row[0]) if is_known else 0.0

    def known_rules(self) -> list[str]:
        """Return the names of the rules that have a state."""
        return [name for (name,) in self._all("SELECT rule FROM evaluations")]

    # Changes

    def apply(
        self,
        rule: AlertSettings,
        findings: Findings,
        clock: AlertClock,
        run: str,
        listening: float,
        missed: Mapping[str, Past],
    ) -> None:
        """Change the states by the findings of an evaluation, and make the notices that follow.

        `missed` has the incidents that began and ended between the evaluation before and this one.
        """
        with failing_as_store_error(self._path), transaction(self.db):
            before = self.conditions(rule.name)
            if self.position(rule) is None and before:
                self._end_all(rule.name, clock, "the rule has changed")
                before = {}
            is_silenced = self.is_silenced(rule.name, clock.wall())
            for key, past in missed.items():
                is_open = (key in before and before[key].incident) or (
                    key in findings.keys and findings.keys[key].holds
                )
                if not is_open and self._has_room():
                    self._make_up(rule, key, past, clock, is_silenced=is_silenced)
            for key, finding in findings.keys.items():
                if key not in before and not finding.holds:
                    continue
                step = states.step(
                    before.get(key), rule, clock.ticks(), _new_id, holds=finding.holds, is_silenced=is_silenced
                )
                if not step.kinds or self._has_room():
                    self._write(rule, key, finding, before.get(key), step, clock)
            self._note_evaluation(rule, findings, clock)
            self._save_clock(clock, run, listening)

    def _note_evaluation(self, rule: AlertSettings, findings: Findings, clock: AlertClock) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO evaluations VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                rule.name, msgspec.json.encode(rule), clock.wall(), findings.value, findings.problem,
                findings.position, clock.ticks(),
            ),
        )  # fmt: skip
        if findings.problem:
            self.count("errors")

    def fail(self, rule: AlertSettings, problem: str, wall: float) -> None:
        """Note why a rule could not be evaluated; its states stay."""
        with failing_as_store_error(self._path), transaction(self.db):
            done = self.db.execute("UPDATE evaluations SET problem = ? WHERE rule = ?", (problem, rule.name))
            if not done.rowcount:
                self.db.execute(
                    "INSERT INTO evaluations VALUES (?, ?, ?, NULL, ?, ?, -1)",
                    (rule.name, msgspec.json.encode(rule), wall, problem, _NOWHERE),
                )
            self.count("errors")

    def forget(self, rules: Collection[str], clock: AlertClock) -> None:
        """End the incidents of rules that are not there any more."""
        gone = [name for name in self.known_rules() if name not in rules]
        for name in gone:
            with failing_as_store_error(self._path), transaction(self.db):
                self._end_all(name, clock, "the rule was removed")
                self.db.execute("DELETE FROM evaluations WHERE rule = ?", (name,))
                self.db.execute("DELETE FROM silences WHERE rule = ?", (name,))

    def _end_all(self, name: str, clock: AlertClock, why: str) -> None:
        """End the incidents of a rule by the settings with which it was evaluated last."""
        row = self.db.execute("SELECT settings FROM evaluations WHERE rule = ?", (name,)).fetchone()
        if row is None:
            return
        rule = read_rule(name, row[0]) or AlertSettings(name=name)
        for key, condition in self.conditions(name).items():
            step = states.step(condition, rule, clock.ticks(), _new_id, holds=False, is_silenced=False)
            self._write(rule, key, None, condition, step, clock, why)

    def _has_room(self) -> bool:
        found = self.db.execute("SELECT count(*) FROM notices WHERE state = 'waiting'").fetchone()
        return bool(found[0] < MOST_WAITING)

    def _write(
        self,
        rule: AlertSettings,
        key: str,
        finding: Finding | None,
        before: Condition | None,
        step: Step,
        clock: AlertClock,
        why: str = "",
    ) -> None:
        condition, wall = step.condition, clock.wall()
        if condition is None:
            self.db.execute("DELETE FROM conditions WHERE rule = ? AND key = ?", (rule.name, key))
        else:
            self.db.execute(
                "INSERT INTO conditions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                " incident = excluded.incident, told = excluded.told, repeats = excluded.repeats",
                (rule.name, key, condition.since, wall, condition.incident, condition.told, condition.repeats),
            )
        incident = condition.incident if condition is not None else before.incident if before is not None else ""
        if not incident:
            return
        if condition is None:
            self.db.execute("UPDATE incidents SET ended = ? WHERE id = ?", (wall, incident))
        elif finding is not None:
            self.db.execute(
                "INSERT INTO incidents (id, rule, key, title, began, started, value, query)"
                " SELECT ?, rule, key, ?, began, ?, ?, ? FROM conditions WHERE rule = ? AND key = ?"
                " ON CONFLICT (id) DO UPDATE SET value = max(value, excluded.value)",
                (incident, finding.title, wall, finding.value, finding.query, rule.name, key),
            )
        for kind in step.kinds:
            self._make_notices(rule, incident, kind, finding, clock, why)

    def _make_up(self, rule: AlertSettings, key: str, past: Past, clock: AlertClock, *, is_silenced: bool) -> None:
        """Make an incident that is over, with the notices of its beginning and its end."""
        incident, wall = _new_id(), clock.wall()
        finding = past.finding._replace(title=f"over already, found late: {past.finding.title}")
        self.db.execute(
            "INSERT INTO incidents (id, rule, key, title, began, started, ended, value, query)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                incident, rule.name, key, finding.title, wall - past.began_age_s, wall, wall - past.ended_age_s,
                finding.value, finding.query,
            ),
        )  # fmt: skip
        for kind in () if is_silenced else (states.FIRING, *((states.RESOLVED,) if rule.resolved else ())):
            self._make_notices(rule, incident, kind, finding, clock, "")

    def _make_notices(
        self, rule: AlertSettings, incident: str, kind: str, finding: Finding | None, clock: AlertClock, why: str
    ) -> None:
        """Queue a notice for each receiver; a resolved one for those that had others of the incident."""
        key, title, value, query, started, ended = self.db.execute(
            "SELECT key, title, value, query, began, ended FROM incidents WHERE id = ?", (incident,)
        ).fetchone()
        is_over = kind == states.RESOLVED
        notice = notices.make(
            rule,
            incident,
            kind,
            title=f"{title} ({why})" if why else title if is_over or finding is None else finding.title,
            value=value if is_over or finding is None else finding.value,
            query=query,
            started=started,
            ended=ended,
            page_url=self._alerts.page_url,
            by=value_of(key),
        )
        notified = self.db.execute("SELECT DISTINCT receiver FROM notices WHERE incident = ?", (incident,)).fetchall()
        for receiver in [name for (name,) in notified] if is_over else rule.send:
            queue(self.db, notice, receiver, clock.ticks(), clock.wall(), self._alerts.give_up_s)

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter, within a transaction of the caller."""
        self.db.execute(
            "INSERT INTO counters VALUES (?, ?) ON CONFLICT DO UPDATE SET count = count + excluded.count",
            (name, number),
        )

    # Bounds and numbers

    def clean(self, wall: float) -> None:
        """Remove what is beyond the bounds."""
        with failing_as_store_error(self._path):
            with transaction(self.db):
                old = self.db.execute(
                    "SELECT id FROM incidents WHERE ended > 0 AND number <="
                    " (SELECT max(number) FROM incidents) - ? LIMIT ?",
                    (MOST_INCIDENTS, _MOST_REMOVED),
                ).fetchall()
                self.db.executemany("DELETE FROM notices WHERE incident = ? AND state <> 'waiting'", old)
                self.db.executemany("DELETE FROM incidents WHERE id = ?", old)
                self.db.execute(
                    "DELETE FROM notices WHERE incident LIKE 'test-%' AND state <> 'waiting' AND made < ?",
                    (wall - KEPT_TESTS_S,),
                )
                self.db.execute("DELETE FROM silences WHERE until < ?", (wall,))
            self.db.execute("PRAGMA incremental_vacuum(1000)").fetchall()

    def numbers(self) -> dict[str, int]:
        """Return the counters, and how many incidents are open and notices wait."""
        counters = dict(self._all("SELECT name, count FROM counters"))
        return {
            "firing": int(self._one("SELECT count(*) FROM conditions WHERE incident <> ''")[0]),
            "waiting": int(self._one("SELECT count(*) FROM notices WHERE state = 'waiting'")[0]),
            **{name: counters.get(name, 0) for name in ("sent", "failed", "errors")},
        }


def read_rule(name: str, data: bytes) -> AlertSettings | None:
    """Return a rule that was kept; None, and a line in the log, for one of another release that cannot be used."""
    try:
        rule = _decode_settings(data)
        problem = next((f"{key} {message}" for key, message in rule.problems()), "")
    except msgspec.MsgspecError as error:
        problem = str(error)
    if problem:
        _log.warning("alert %s: the rule in alerts.db cannot be used: %s", name, problem)
        return None
    return rule


def queue(
    db: sqlite3.Connection, notice: notices.Notice, receiver: str, ticks: float, wall: float, give_up_s: float
) -> None:
    """Add a notice for one receiver to those that wait, within a transaction of the caller; one that is there stays."""
    db.execute(
        "INSERT OR IGNORE INTO notices (incident, rule, kind, receiver, body, made, due, expires)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            notice.incident, notice.alert, notice.kind, receiver, msgspec.json.encode(notice), wall, ticks,
            ticks + give_up_s,
        ),
    )  # fmt: skip


def _new_id() -> str:
    return uuid.uuid4().hex[:16]


def _subject(rule: AlertSettings) -> tuple[str, ...]:
    """Return what a rule is about: with another subject its states begin again."""
    return (rule.on, rule.query, rule.store, rule.service, rule.text, rule.by)

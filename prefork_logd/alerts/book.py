"""Lists rules, states and incidents for people, and changes what people may change: rules of the page, and silences.

Owns the rows that the command line and the API show. Does not know how a rule is evaluated or a row printed. It works
beside the process of the alerts, and without one.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from prefork_logd.alerts import notices, schema
from prefork_logd.alerts.by_value import SIGN, WITHOUT, value_of
from prefork_logd.alerts.findings import FURTHER
from prefork_logd.alerts.ledger import queue, read_rule
from prefork_logd.alerts.states import TEST
from prefork_logd.config.alerts import MAX_ALERTS
from prefork_logd.config.checks import rule_problems
from prefork_logd.config.paths import ALERTS_FILE
from prefork_logd.config.values import parse_duration
from prefork_logd.errors import LogdError
from prefork_logd.system.sqlite import failing_as_store_error, transaction

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefork_logd.config.alerts import AlertSettings
    from prefork_logd.config.settings import Settings

LONGEST_SILENCE_S = 366 * 86_400.0
STALE_S = 120.0
MOST_TESTS = 20
"""Test notices that wait at once."""
TEST_S = 75.0
"""Longest time that a test notice waits: longer than one attempt takes."""

_INCIDENT = "id, rule, key, title, began, ended, value, query"
_NOTICE = "receiver, kind, state, attempts, at, answer"

StateName = Literal["unknown", "ok", "pending", "firing"]
STATES: tuple[StateName, ...] = ("unknown", "ok", "pending", "firing")


class NoSuchRuleError(LogdError):
    """There is no rule of this name."""


class RuleRefusedError(LogdError):
    """A rule cannot be changed. The text says why."""


class RuleProblemError(LogdError):
    """A rule has a value that cannot be used; `key` names it."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(f"{key} {message}")
        self.key = key


class RuleRow(msgspec.Struct):
    """A rule and its state. Times are seconds since 1970; 0 and empty texts stand for none."""

    name: str
    source: Literal["configuration", "page"]
    """Where the rule was made; only rules of the page can be changed there."""
    author: str
    """Who has made a rule of the page."""
    on: Literal["count", "absence", "new-group", "regressed-group"]
    query: str
    store: str
    window: str
    above: int
    by: str
    """The field of whose values each has incidents of its own; empty: all records together."""
    service: str
    text: str
    every: str
    for_: str = msgspec.field(name="for")
    """How long the condition has to hold before people are told."""
    repeat: str
    resolved: bool
    send: list[str]
    """Names of receivers."""
    state: StateName
    """unknown: the rule was not evaluated yet."""
    state_since: float
    firing: int
    """Number of incidents that are open."""
    evaluated_at: float
    value: int | None
    """Records in the window at the last evaluation, or groups of errors."""
    problem: str
    """Why the last evaluation failed, or the parts of the store that it could not read."""
    silenced_until: float
    silenced_by: str


class NoticeRow(msgspec.Struct):
    """A notice to one receiver."""

    receiver: str
    kind: str
    """firing, repeat-1 and so on, or resolved."""
    state: Literal["waiting", "sent", "failed"]
    attempts: int
    at: float
    """When the last attempt ended."""
    answer: str
    """What the receiver has answered, or why it could not be reached."""


class IncidentRow(msgspec.Struct):
    """A time in which the condition of a rule held."""

    id: str
    rule: str
    key: str
    """Id of the group of errors, for rules about groups."""
    by: str
    """The value of the rule's `by`, its beginning if it is long; empty also for records without one."""
    title: str
    state: Literal["firing", "resolved"]
    started: float
    ended: float
    value: int
    """The highest so far."""
    query: str
    """The query that finds the records."""
    since: float
    """Of the records that the query is about."""
    until: float
    """The end of the incident; the present time while it is open."""
    silenced: bool
    """Whether no notice was made, because the rule was silenced."""
    notices: list[NoticeRow]


class TestResult(msgspec.Struct):
    """What became of a test notice."""

    receiver: str
    ok: bool
    answer: str
    seconds: float


def is_stale(row: RuleRow, now: float) -> bool:
    """Tell whether a rule was evaluated long ago: no collector runs, it is too slow, or alerts.db cannot be written."""
    return 0 < row.evaluated_at < now - max(STALE_S, 3 * parse_duration(row.every))


class AlertBook:
    """The rules and alerts of one collector. Every method raises StoreError if alerts.db cannot be used."""

    def __init__(self, settings: Settings, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the file if there is one; it is made by the first change."""
        self._settings = settings
        self._path = state_dir / ALERTS_FILE
        self._clock = clock
        self._opened: sqlite3.Connection | None = schema.connect(self._path) if self._path.exists() else None

    def close(self) -> None:
        """Close the file; never raises."""
        if self._opened is not None:
            self._opened.close()

    def _db(self) -> sqlite3.Connection:
        if self._opened is None:
            self._opened = schema.connect(self._path)
        return self._opened

    def _all(self, statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        if self._opened is None:
            return []
        with failing_as_store_error(self._path):
            return self._opened.execute(statement, values).fetchall()

    # Reading

    def rules(self) -> list[RuleRow]:
        """Return every rule by its name, those of the configuration first."""
        configured = {rule.name for rule in self._settings.alert}
        of_page = [
            self._row(rule, author)
            for name, data, author in self._all("SELECT name, settings, author FROM rules ORDER BY name")
            if (rule := read_rule(name, data)) is not None
        ]
        return [
            *(self._row(rule) for rule in sorted(self._settings.alert, key=lambda rule: rule.name)),
            *(row for row in of_page if row.name not in configured),
        ]

    def rule(self, name: str) -> RuleRow:
        """Return one rule. Raises NoSuchRuleError."""
        settings, author = self._find(name)
        return self._row(settings, author)

    def _find(self, name: str) -> tuple[AlertSettings, str | None]:
        """Return a rule and the author; None for one of the configuration. Raises NoSuchRuleError."""
        for rule in self._settings.alert:
            if rule.name == name:
                return rule, None
        for data, author in self._all("SELECT settings, author FROM rules WHERE name = ?", (name,)):
            if (found := read_rule(name, data)) is not None:
                return found, author
        raise NoSuchRuleError(f"there is no rule {name!r:.100}")

    def _row(self, rule: AlertSettings, author: str | None = None) -> RuleRow:
        evaluated, value, problem = next(
            iter(self._all("SELECT evaluated, value, problem FROM evaluations WHERE rule = ?", (rule.name,))),
            (0.0, None, ""),
        )
        until, who = next(iter(self._all("SELECT until, who FROM silences WHERE rule = ?", (rule.name,))), (0.0, ""))
        is_silenced = until > self._clock()
        conditions = self._all("SELECT incident <> '', began FROM conditions WHERE rule = ?", (rule.name,))
        firing = [began for has_incident, began in conditions if has_incident]
        pending = [began for has_incident, began in conditions if not has_incident]
        state: StateName = "firing" if firing else "pending" if pending else "ok" if value is not None else "unknown"
        return RuleRow(
            **{field.name: getattr(rule, field.name) for field in msgspec.structs.fields(rule) if field.name != "send"},
            send=list(rule.send),
            source="configuration" if author is None else "page",
            author=author or "",
            state=state,
            state_since=min(firing or pending, default=0.0),
            firing=len(firing),
            evaluated_at=evaluated,
            value=value,
            problem=problem,
            silenced_until=until if is_silenced else 0.0,
            silenced_by=who if is_silenced else "",
        )

    def incidents(
        self, rule: str = "", *, is_open: bool | None = None, limit: int = 50, offset: int = 0
    ) -> list[IncidentRow]:
        """Return incidents, the newest first."""
        conditions = ["1", *(["rule = ?"] if rule else [])]
        if is_open is not None:
            conditions.append("ended = 0" if is_open else "ended > 0")
        statement = f"SELECT {_INCIDENT} FROM incidents WHERE {' AND '.join(conditions)}"
        found = self._all(
            f"{statement} ORDER BY number DESC LIMIT ? OFFSET ?", (*([rule] if rule else []), limit, offset)
        )
        return [self._incident(*one) for one in found]

    def _incident(
        self, incident: str, rule: str, key: str, title: str, began: float, ended: float, value: int, query: str
    ) -> IncidentRow:
        sent = self._all(
            f"SELECT {_NOTICE} FROM notices WHERE incident = ? ORDER BY number LIMIT 100",
            (incident,),
        )
        is_of_value = key.startswith(SIGN)
        window_s = self._window_s(rule) if not key or key == WITHOUT or is_of_value else notices.GROUP_S
        return IncidentRow(
            id=incident,
            rule=rule,
            key="" if is_of_value or key in (FURTHER, WITHOUT) else key,
            by=value_of(key),
            title=title,
            state="resolved" if ended else "firing",
            started=began,
            ended=ended,
            value=value,
            query=query,
            since=began - window_s,
            until=ended or self._clock(),
            silenced=not sent,
            notices=[NoticeRow(*one) for one in sent],
        )

    def _window_s(self, rule: str) -> float:
        try:
            return self._find(rule)[0].window_s
        except NoSuchRuleError:
            return 0.0

    # Changes by people

    def make(self, rule: AlertSettings, author: str) -> RuleRow:
        """Make a rule. Raises RuleProblemError, RuleRefusedError."""
        self._check(rule)
        with self._writing() as db:
            if db.execute("SELECT 1 FROM rules WHERE name = ?", (rule.name,)).fetchone():
                raise RuleProblemError("name", f"{rule.name!r} is taken by another rule; choose another")
            if db.execute("SELECT count(*) FROM rules").fetchone()[0] >= MAX_ALERTS:
                raise RuleRefusedError(f"there are {MAX_ALERTS} rules already; remove one first")
            self._write(db, rule, author)
        return self.rule(rule.name)

    def change(self, name: str, rule: AlertSettings, author: str) -> RuleRow:
        """Put a rule in the place of another. Raises NoSuchRuleError, RuleProblemError, RuleRefusedError."""
        self._require_page(name)
        self._check(rule)
        with self._writing() as db:
            if rule.name != name and db.execute("SELECT 1 FROM rules WHERE name = ?", (rule.name,)).fetchone():
                raise RuleProblemError("name", f"{rule.name!r} is taken by another rule; choose another")
            db.execute("DELETE FROM rules WHERE name = ?", (name,))
            self._write(db, rule, author)
        return self.rule(rule.name)

    def remove(self, name: str) -> None:
        """Remove a rule of the page. Raises NoSuchRuleError, RuleRefusedError."""
        self._require_page(name)
        with self._writing() as db:
            db.execute("DELETE FROM rules WHERE name = ?", (name,))

    def silence(self, name: str, for_s: float, who: str) -> RuleRow:
        """Silence a rule for some seconds from now on, 366 days at most; 0 ends a silence. Raises NoSuchRuleError."""
        self._find(name)
        with self._writing() as db:
            db.execute("DELETE FROM silences WHERE rule = ?", (name,))
            if for_s > 0:
                until = self._clock() + min(for_s, LONGEST_SILENCE_S)
                db.execute("INSERT INTO silences VALUES (?, ?, ?)", (name, until, who[:200]))
        return self.rule(name)

    def _require_page(self, name: str) -> None:
        if self._find(name)[1] is None:
            raise RuleRefusedError(f"{name!r} is a rule of the configuration file; change it there")

    def _check(self, rule: AlertSettings) -> None:
        if any(one.name == rule.name for one in self._settings.alert):
            raise RuleRefusedError(f"{rule.name!r} is a rule of the configuration file; choose another name")
        for key, message in (*rule.problems(), *rule_problems(rule, self._settings)):
            raise RuleProblemError(key, message)

    def _write(self, db: sqlite3.Connection, rule: AlertSettings, author: str) -> None:
        db.execute(
            "INSERT INTO rules VALUES (?, ?, ?, ?)", (rule.name, msgspec.json.encode(rule), author[:200], self._clock())
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        db = self._db()
        with failing_as_store_error(self._path), transaction(db):
            yield db

    # Tests

    def test_notice(self, name: str) -> tuple[AlertSettings, notices.Notice]:
        """Return a rule and a notice that says it is a test. Raises NoSuchRuleError."""
        rule = self._find(name)[0]
        now = self._clock()
        return rule, notices.make(
            rule,
            f"test-{secrets.token_hex(8)}",
            TEST,
            title="This is a test of the alert; nothing has happened.",
            value=0,
            query=rule.query,
            started=now,
            ended=now,
            page_url=self._settings.alerts.page_url,
        )

    def begin_test(self, name: str) -> str:
        """Let the process of the alerts send a test notice to each receiver of a rule.

        Returns its id, for `test_results`. Raises NoSuchRuleError, RuleRefusedError.
        """
        rule, notice = self.test_notice(name)
        with self._writing() as db:
            waiting = db.execute("SELECT count(*) FROM notices WHERE incident LIKE 'test-%' AND state = 'waiting'")
            if waiting.fetchone()[0] + len(rule.send) > MOST_TESTS:
                raise RuleRefusedError("other tests have not ended yet; try again later")
            for receiver in rule.send:
                queue(db, notice, receiver, 0.0, self._clock(), TEST_S)
        return notice.incident

    def test_results(self, incident: str) -> tuple[list[TestResult], bool]:
        """Return the results of a test so far, and whether all have come."""
        found = self._all(
            "SELECT receiver, state, answer, seconds FROM notices WHERE incident = ? ORDER BY number", (incident,)
        )
        results = [
            TestResult(receiver, state == "sent", answer or "no answer yet", round(seconds, 3))
            for receiver, state, answer, seconds in found
        ]
        return results, all(state != "waiting" for _, state, _, _ in found)

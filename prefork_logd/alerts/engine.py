"""Evaluates the rules that are due, and begins to send what follows from it.

Owns when a rule is due, and the order of a turn. Does not know processes: what it sees of the collector is passed in.

Nothing is opened or imported until there is a rule.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from prefork_logd.alerts import by_value, counting, missed
from prefork_logd.alerts import findings as found
from prefork_logd.alerts.clock import AlertClock
from prefork_logd.alerts.ledger import Ledger
from prefork_logd.alerts.sending import Dispatcher, Outbox
from prefork_logd.alerts.silent_values import of_silence
from prefork_logd.config.alerts import MAX_ALERTS, AlertSettings
from prefork_logd.config.checks import rule_problems
from prefork_logd.config.paths import ALERTS_FILE, JOURNAL_DIRECTORY
from prefork_logd.errors import StoreError, describe_unexpected, file_problem
from prefork_logd.query.search import Limits, problems_of
from prefork_logd.stores.apart import open_killable
from prefork_logd.stores.registry import choose_store
from prefork_logd.system.log import LOGGER, RateLimitedLog
from prefork_logd.system.sqlite import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefork_logd.alerts.findings import Findings, Watched
    from prefork_logd.alerts.missed import Past
    from prefork_logd.config.settings import Settings
    from prefork_logd.query.search import Search

LOOK_S = 1.0
"""Longest time between two looks at the clock, at rules made on the page, and at notices that are due."""
CLEAN_S = 60.0
AGAIN_S = 60.0
"""Longest time until a rule is evaluated again that could not be."""
TURN_S = 5.0
"""Longest time of a turn, besides its last search. Further rules that are due wait for the next one: only between turns
are changed rules read, the clock looked at, and waiting notices sent."""
DEADLINE_S = 30.0
"""Longest time of a search for one rule."""
MOST_PROBLEM = 1_000
"""Characters about the parts of a store that cannot be read."""


class Engine:
    """The alerts of one collector."""

    def __init__(
        self,
        settings: Settings,
        state_dir: Path,
        watched: Watched,
        run: str,
        make_clock: Callable[..., AlertClock] = AlertClock,
    ) -> None:
        """Open nothing yet. `run` identifies the run of the collector (clock.run_id)."""
        self._settings = settings
        self._path = state_dir / ALERTS_FILE
        self._journal = state_dir / JOURNAL_DIRECTORY
        self._watched = watched
        self._run = run
        self._make_clock = make_clock
        self._known: dict[str, AlertSettings] | None = None
        self._due: dict[str, float] = {}
        """When each rule is evaluated next, on the clock."""
        self._opened: _Opened | None = None
        self._sending: tuple[AlertClock, Dispatcher] | None = None
        """Kept while the database is closed: an attempt may be under way, and must not be begun twice."""
        self._version = -1
        self._page_rules: list[AlertSettings] = []
        self._clean_at = 0.0
        self._log = RateLimitedLog()
        self.problem = ""
        """Why alerts do not work now; empty if they do."""
        self.numbers: dict[str, int] = {}
        """The number of rules, of incidents that are open, and the counters."""

    def turn(self) -> None:
        """Evaluate the rules that are due, and begin to send the notices that are due; never raises."""
        try:
            self._turn()
            if self.problem:
                LOGGER.info("alerts: rules are evaluated again")
            self.problem = ""
        except StoreError as error:
            self._fail(str(error))
        except OSError as error:
            self._fail(file_problem(error))
        except Exception as error:  # noqa: BLE001 - the next turn may succeed
            self._fail(f"unexpected {describe_unexpected(error)}")

    def _fail(self, problem: str) -> None:
        if problem != self.problem:
            self._log.warning("alerts: %s", problem)
        self.problem = problem
        self.close()

    def close(self) -> None:
        """Close the database, and wait for nothing."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def end(self, longest_s: float) -> None:
        """Begin no further attempt to send, and wait for those under way."""
        if self._sending is not None:
            self._sending[1].end(longest_s)

    def _turn(self) -> None:
        if self._opened is None:
            if not self._settings.alert and not self._path.exists():
                return
            self._opened = self._open()
            self._version, self._known = -1, None
        opened = self._opened
        opened.place.check()
        rules = self._rules(opened.ledger)
        journal, number = self._watched.journal()
        if journal:
            if opened.clock.look(number) or not self._watched.is_listening():
                opened.listening = opened.clock.ticks()
                opened.save()
            self._evaluate(opened, rules)
        opened.dispatcher.start_due(opened.outbox)
        if opened.clock.ticks() >= self._clean_at:
            opened.ledger.clean(opened.clock.wall())
            self._clean_at = opened.clock.ticks() + CLEAN_S
        self.numbers = {"rules": len(rules), **opened.ledger.numbers()}

    def _open(self) -> _Opened:
        """Open or make the database. Raises StoreError."""
        ledger = Ledger(self._path, self._settings)
        try:
            kept = ledger.clock()
            if self._sending is None:
                receivers = {receiver.name: receiver for receiver in self._settings.receiver}
                clock = self._make_clock(kept[0] if kept is not None else None)
                self._sending = clock, Dispatcher(self._path, clock, receivers)
            clock, dispatcher = self._sending
            listening = kept[2] if kept is not None and kept[1] == self._run else clock.ticks()
            return _Opened(self._path, ledger, clock, dispatcher, self._run, listening)
        except BaseException:
            ledger.close()
            raise

    def _rules(self, ledger: Ledger) -> dict[str, AlertSettings]:
        """Return the rules of the configuration and of the page, which cannot replace one of the configuration."""
        if (version := ledger.version()) != self._version:
            self._page_rules = ledger.page_rules()[:MAX_ALERTS]
            self._version = version
        return {rule.name: rule for rule in (*self._page_rules, *self._settings.alert)}

    def _evaluate(self, opened: _Opened, rules: dict[str, AlertSettings]) -> None:
        ticks = opened.clock.ticks()
        if rules != self._known:
            opened.ledger.forget(rules, opened.clock)
            self._known = rules
            self._due = {name: min(self._due.get(name, ticks), ticks + rule.every_s) for name, rule in rules.items()}
        # The longest due first, so that slow rules keep no other from its turn.
        due = [rules[name] for at, name in sorted((at, name) for name, at in self._due.items()) if at <= ticks]
        with contextlib.ExitStack() as stack:
            searches: dict[str, Search] = {}
            for rule in due:
                if opened.clock.ticks() >= ticks + TURN_S:
                    break
                if self._evaluate_one(opened, rule, searches, stack):
                    # A rule that was late is not evaluated twice for that.
                    self._due[rule.name] = max(self._due[rule.name] + rule.every_s, ticks + 0.5 * rule.every_s)
                else:
                    self._due[rule.name] = ticks + min(rule.every_s, AGAIN_S)

    def _evaluate_one(
        self, opened: _Opened, rule: AlertSettings, searches: dict[str, Search], stack: contextlib.ExitStack
    ) -> bool:
        """Evaluate a rule; return whether that was possible. Raises StoreError if the outcome cannot be kept."""
        if problem := _problem(rule, self._settings):
            self._note_problem(opened, rule, problem)
            return False
        past: Mapping[str, Past] = {}
        try:
            if rule.is_of_groups:
                findings = self._of_groups(opened, rule)
            else:
                search = self._search(rule, searches, stack)
                findings = self._of_records(opened, rule, search)
                past = self._missed(opened, rule, search)
        except (StoreError, ValueError) as error:
            self._note_problem(opened, rule, str(error))
        except Exception as error:  # noqa: BLE001 - one rule must not hold up the others
            self._note_problem(opened, rule, f"unexpected {describe_unexpected(error)}")
        else:
            if findings.problem:
                self._log.warning("alert %s: %s", rule.name, findings.problem)
            opened.ledger.apply(rule, findings, opened.clock, self._run, opened.listening, past)
            # At once: the searches of other rules may take long.
            opened.dispatcher.start_due(opened.outbox)
            return True
        return False

    def _note_problem(self, opened: _Opened, rule: AlertSettings, problem: str) -> None:
        self._log.warning("alert %s: cannot be evaluated: %s", rule.name, problem)
        opened.ledger.fail(rule, problem, opened.clock.wall())

    def _search(self, rule: AlertSettings, searches: dict[str, Search], stack: contextlib.ExitStack) -> Search:
        """Return the store of a rule, opened once in a turn. Raises StoreError."""
        settings = choose_store(self._settings, rule.store or None)
        if settings.name not in searches:
            search = searches[settings.name] = open_killable(settings, self._journal)
            stack.callback(search.close)
        searches[settings.name].limits = Limits(DEADLINE_S)
        return searches[settings.name]

    def _of_records(self, opened: _Opened, rule: AlertSettings, search: Search) -> Findings:
        listening_s = opened.clock.ticks() - opened.listening
        if rule.by and rule.on == "absence":
            keys = opened.ledger.open_keys(rule)
            findings = of_silence(rule, search, opened.clock, self._settings, self._watched, keys, listening_s)
        elif rule.by:
            keys = opened.ledger.open_keys(rule)
            findings = by_value.of_values(rule, search, opened.clock, self._settings, self._watched, keys)
        else:
            findings = found.of_records(rule, search, opened.clock, self._settings, self._watched, listening_s)
        if problems := problems_of(search):
            problem = f"only a part of the store can be read: {'; '.join(problems)}"
            findings = findings._replace(problem=problem[:MOST_PROBLEM])
        return findings

    def _missed(self, opened: _Opened, rule: AlertSettings, search: Search) -> Mapping[str, Past]:
        """Return the conditions that held and ended since the last evaluation, if that was too long ago.

        Raises StoreError for alerts.db.
        """
        clock, lateness_s = opened.clock, self._settings.alerts.lateness_s
        gap_s = opened.ledger.gap_s(rule, clock.ticks())
        if not missed.is_late(rule, gap_s) or (rule.by and rule.on == "absence"):
            return {}
        holding = by_value.held_by_value if rule.by else found.held
        windows = missed.Windows(
            is_possible=lambda past: (
                rule.on == "absence" or counting.count_past(search, rule.query, past, lateness_s) > rule.above
            ),
            holding=lambda past: holding(rule, search, past, lateness_s),
        )
        try:
            return missed.find_missed(rule, gap_s, clock, clock.ticks() - opened.listening, windows)
        except (StoreError, ValueError) as error:
            # Else a search that is too slow would stop the rule for good.
            self._log.warning("alert %s: the last %.0f s cannot be made up for: %s", rule.name, gap_s, error)
            return {}

    def _of_groups(self, opened: _Opened, rule: AlertSettings) -> Findings:
        position, keys = opened.ledger.position(rule), opened.ledger.open_keys(rule)
        return found.of_groups(rule, Path(self._settings.errors.path), position, keys)


class _Opened:
    """The database and what belongs to it."""

    def __init__(
        self, path: Path, ledger: Ledger, clock: AlertClock, dispatcher: Dispatcher, run: str, listening: float
    ) -> None:
        """Keep the clock. Raises StoreError."""
        self._run = run
        self.ledger, self.clock, self.dispatcher = ledger, clock, dispatcher
        self.listening = listening
        """When the collector began to listen without a break, on the clock."""
        self.place = Place(path)
        self.outbox = Outbox(path, clock)
        self.save()

    def save(self) -> None:
        """Keep the clock. Raises StoreError."""
        self.ledger.save_clock(self.clock, self._run, self.listening)

    def close(self) -> None:
        """Close the file; never raises."""
        self.outbox.close()
        self.ledger.close()


def _problem(rule: AlertSettings, settings: Settings) -> str:
    """Return what is wrong with a rule of the page, such as a receiver that is gone; empty if nothing is.

    Those of the configuration were checked when it was read.
    """
    problems = () if rule in settings.alert else rule_problems(rule, settings)
    return next((problem for _, problem in problems), "")

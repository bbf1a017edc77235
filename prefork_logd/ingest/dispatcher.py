"""Turns each frame into finished lines in the batch, for the outputs that let the record through.

Owns which renderer serves which output, for one configuration. Does not know sockets, pipes or files.
"""

from __future__ import annotations

import math
import pickle
import sys
import time
from typing import TYPE_CHECKING, Any

from prefork_logd.config.values import format_count
from prefork_logd.errors import RecordRejected
from prefork_logd.ingest import core
from prefork_logd.ingest._core_py import STOP
from prefork_logd.ingest.bounded import cut_record, json_line, text_line, whole_json_line
from prefork_logd.ingest.file_choice import FileChoices
from prefork_logd.ingest.rejections import Rejections
from prefork_logd.ingest.routing import Router
from prefork_logd.ingest.sampling import Sampler
from prefork_logd.inputs.pickles.decode import decode, decode_holed, forget
from prefork_logd.ipc.batch import RECORDS
from prefork_logd.ipc.batch_builder import BatchBuilder
from prefork_logd.records.render import TextTemplate, render_gap, render_json, render_rejected
from prefork_logd.records.sender import NOBODY, Sender
from prefork_logd.records.stored import read_record
from prefork_logd.system.log import RateLimitedLog, describe_bug

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prefork_logd.config.settings import Settings
    from prefork_logd.ingest.routing import Filter
    from prefork_logd.inputs.base import TooLarge
    from prefork_logd.ipc.batch_builder import Gathered
    from prefork_logd.ipc.configuration import Configuration
    from prefork_logd.records.record import Record
    from prefork_logd.records.redaction import Redactor

    MakeJson = Callable[[Record, bytes, Redactor, Sender], bytes]

REJECTED_OUTPUT = 0
"""The slot of rejected.jsonl on the scoreboard and in batches."""
WARM_UP_RECORDS = 300
UNREAD_BYTES = 440
"""A shorter text has no list or object that its input left unread: with too many values, or 220 levels deep."""
MOST_SHOWN = 1024
"""Senders that are remembered with their redacted form."""
BATCH_BYTES = 524_288
"""A batch of this size is sent before the end of the turn."""


class Dispatcher:
    """Decodes, filters and renders under one configuration."""

    def __init__(
        self,
        configuration: Configuration,
        new_lines: Callable[[], Gathered] = core.Lines,
        rejections: Rejections | None = None,
    ) -> None:
        """Dispatch under `configuration`; `rejections` bounds the entries in rejected.jsonl."""
        self._rejections = rejections if rejections is not None else Rejections()
        settings = configuration.settings
        self._output_ids = configuration.output_ids
        self.has_stores = bool(settings.store)
        """Whether lines are made for the stores, too."""
        # Records that every store filters out are not shipped; the others pass each store's filter in its shipper.
        is_filtered = all(store.is_filtered for store in settings.store)
        self._stores = Router(settings.store) if self.has_stores and is_filtered else None
        like = self._same_as_records(configuration) if self.has_stores and self._stores is None else None
        self._adds_records = self.has_stores and like is None
        self._files = FileChoices(self._output_ids, settings.output)
        self.batch = BatchBuilder(configuration.generation, like, new_lines, self._files.most_files)
        self._peer, self._received_s, self._sender = "", 0.0, NOBODY
        self.stop_at_s = math.inf
        """When (time.monotonic()) a run with slow frames ends."""
        self.bugs = RateLimitedLog()
        self._redacted = 0
        self.last_rejection = ""
        """Reason of the latest rejected record, for people."""
        self._shown: dict[int, tuple[Sender, Sender]] = {}
        """Senders, by id(), and these without secrets."""
        self._router = Router(settings.output)
        self._templates = tuple(
            TextTemplate(output.template) if output.format == "text" else None for output in settings.output
        )
        self._redactor = settings.redact.redactor()
        stores = self._rules_of_stores(settings)
        self.sampler = Sampler(settings.sample, settings.server.worker_count)
        rules = self._rules_of_outputs(settings), stores, self.has_stores, self._redactor
        self._core = core.Core(*rules, self.sampler.rules(), self.sampler)
        self._sinks = (*self._files.single_ids, RECORDS) if stores else self._files.single_ids
        self._only_output = self._plain_output()

    def _rules_of_outputs(self, settings: Settings) -> list[tuple[Any, ...]]:
        """Return the parts of each output's template (None: JSON) and its filter, for the core."""
        return [
            (template.parts if template else None, *_filter_of(output))
            for template, output in zip(self._templates, settings.output, strict=True)
        ]

    def _rules_of_stores(self, settings: Settings) -> list[tuple[Any, ...]]:
        """Return the filter of each store, for the core; none if no line is made for the stores alone."""
        if self._stores is not None:
            return [_filter_of(store) for store in settings.store]
        return [(0, ())] if self._adds_records else []

    def _plain_output(self) -> int | None:
        """Return the only output if it gets each record as JSON and no other line is made, as in most collectors."""
        is_one = self._templates == (None,) and not self._files
        is_plain = is_one and self._router.unconditional and not self._adds_records
        return self._output_ids[0] if is_plain else None

    @staticmethod
    def _same_as_records(configuration: Configuration) -> int | None:
        """Return the slot of an output that gets each record as JSON, like the stores; None if there is none."""
        for output_id, output in zip(configuration.output_ids, configuration.settings.output, strict=True):
            if output.format == "json" and not any(_filter_of(output)) and not output.has_fields:
                return output_id
        return None

    def run(
        self,
        data: bytes | memoryview,
        start: int,
        count: int,
        max_bytes: int,
        peer: str,
        received_s: float,
        failures: int = 0,
        most_failures: int = sys.maxsize,
        header_bytes: int = 0,
        sender: Sender = NOBODY,
    ) -> tuple[int, int, int, int, list[tuple[int, int]]]:
        """Add the lines of length-prefixed records of `data`, from `start` on, to the batch, or entries about them.

        `sender` signs each of them. Returns the offset where it ended, the number of records handled, the number of
        these rejected, the failures in a row, and those for the stores: (first, count), counted from 0. It also ends
        when the batch is large (_core_py.Core.run), and at `stop_at_s` after a record that was slow.
        """
        sender = self._take_source(peer, received_s, sender)
        sinks: tuple[Any, ...] = self.batch.sinks(self._sinks)
        if self._files:
            sinks = self._files.add_sinks(sinks, self.batch, sender, received_s)
        return self._core.run(
            *(data, start, len(data), count, max_bytes, peer, received_s, sinks),
            *(self._add_frame, BATCH_BYTES, failures, most_failures, header_bytes, sender, self._is_over),
        )

    def _take_source(self, peer: str, received_s: float, sender: Sender) -> Sender:
        """Note what the next records have in common; return the sender without secrets, the same object each time."""
        self._peer, self._received_s, self._sender = peer, received_s, sender
        self.batch.peer = peer
        self.sampler.service = sender.service
        if sender.fields:
            known = self._shown.get(id(sender))
            if known is None or known[0] is not sender:
                if len(self._shown) >= MOST_SHOWN:
                    self._shown.clear()
                known = self._shown[id(sender)] = sender, self._redactor.redact_sender(sender)
            self._sender = known[1]
        return self._sender

    def take_redacted(self) -> int:
        """Return the number of records with a secret that was replaced, since the last call."""
        count, self._redacted = self._redacted + self._core.redacted, 0
        self._core.redacted = 0
        return count

    def add_texts(
        self,
        bodies: Sequence[bytes],
        decode_text: Callable[[bytes, str, float], Record],
        peer: str,
        received_s: float,
        failures: int = 0,
        most_failures: int = sys.maxsize,
        sender: Sender = NOBODY,
    ) -> tuple[int, int, int]:
        """Add the lines of records that `decode_text` reads to the batch, or entries about them.

        Handles at least one. Ends when the batch is large, at `stop_at_s`, and after `most_failures` failures in a row.
        Returns the number of bodies handled, the number of these rejected, and the failures in a row.
        """
        self._take_source(peer, received_s, sender)

        def dispatch(body: bytes, *source: Any) -> bool:
            return self._add_text(decode_text(body, *source), body, whole_json_line)

        taken = rejected = 0
        for body in bodies:
            outcome = self._attempt(dispatch, body)
            taken += 1
            if outcome & ~STOP:
                failures = 0
            else:
                failures += 1
                rejected += 1
            if outcome & STOP or failures >= most_failures or self.batch.nbytes >= BATCH_BYTES:
                break
        return taken, rejected, failures

    def _add_frame(self, frame: bytes) -> int:
        """Decode a frame that the core leaves to Python; return the value that its `run` expects (_core_py.Core.run).

        That is 0 for a rejected frame, 1 for a record, 2 for one that is for the stores; plus STOP when the time is
        over.
        """
        return self._attempt(self._dispatch, frame)

    def add_cut(self, event: TooLarge, peer: str, received_s: float, sender: Sender = NOBODY) -> int:
        """Add a record of which beginning and end are kept; return 1, 2 if for the stores, 0 if they hold none."""
        self._take_source(peer, received_s, sender)
        try:
            if event.decode is not None:
                is_shipped = self._add_text(event.decode(peer, received_s), event.body, _cut_json_line)
            else:
                attributes = decode_holed(event.body, event.hole, event.size - len(event.body))
                is_shipped = self._add_lines(cut_record(attributes, peer, received_s), event.body, _cut_json_line)
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug must cost only the record that meets it
            if not isinstance(error, RecordRejected):
                self.bugs.warning("%s: a record is rejected after an unexpected error: %s", peer, describe_bug(error))
            return 0
        return 1 + is_shipped

    def _attempt(self, dispatch: Callable[[bytes, str, float], bool], body: bytes) -> int:
        """Add a record by `dispatch`, or an entry about it; return the same value as `_add_frame`."""
        try:
            outcome = 1 + dispatch(body, self._peer, self._received_s)
        except RecordRejected as verdict:
            self.reject(self._peer, self._received_s, verdict.reason, verdict.detail, body, len(body))
            outcome = 0
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - a bug must cost only the record that meets it
            detail = describe_bug(error)
            self.bugs.warning("%s: a record is rejected after an unexpected error: %s", self._peer, detail)
            self.reject(self._peer, self._received_s, "unexpected", detail, body, len(body))
            outcome = 0
        finally:
            forget()
        return outcome | STOP if self._is_over() else outcome

    def _is_over(self) -> bool:
        """Return whether the time of the present run is over, or the batch full."""
        return time.monotonic() >= self.stop_at_s or self.batch.is_full

    def _dispatch(self, frame: bytes, peer: str, received_s: float) -> bool:
        """Add a record's lines to the batch; return whether one of them is for the stores. Raises RecordRejected."""
        return self._add_lines(cut_record(decode(frame), peer, received_s), frame, json_line)

    def _add_lines(self, record: Record, source: bytes, make_json: MakeJson) -> bool:
        """Add the lines of a record that was read from `source`; return whether one of them is for the stores."""
        redactor, sender = self._redactor, self.sampler.judge(record, self._sender)
        if sender is None:
            return False
        self._redacted += redactor.redact(record)
        sender.sign(record)
        if self._only_output is not None:
            self.batch.add(self._only_output, make_json(record, source, redactor, sender))
            return self.has_stores
        as_json = None
        # All lines are made before the first is added, so that an error leaves none in the batch.
        lines = []
        for index in self._router.route(*_source_of(record)):
            template = self._templates[index]
            if template is not None:
                line = text_line(template, record, source)
            else:
                line = as_json = as_json or make_json(record, source, redactor, sender)
            lines.append((self._files.of_record(index, record, self.batch), line))
        if self._adds_records:
            as_json = as_json or make_json(record, source, redactor, sender)
        for output_id, line in lines:
            self.batch.add(output_id, line)
        return self._add_record(record, as_json or b"")

    def _add_text(self, record: Record, body: bytes, make_json: MakeJson) -> bool:
        """Do `_add_lines` for a record in a form of its input's own, in which lists may be text that was not read."""
        before = self._redacted
        found = len(body) >= UNREAD_BYTES and self._redactor.redact_unread(record)
        is_shipped = self._add_lines(record, body, make_json)
        # A record counts once.
        self._redacted = max(self._redacted, before + found)
        return is_shipped

    def _add_record(self, record: Record, line: bytes) -> bool:
        """Add the line for the stores, unless they filter it out or share an output's; return whether they get one."""
        if not self._adds_records:
            return self.has_stores
        if self._stores is not None and not self._stores.route(*_source_of(record)):
            return False
        self.batch.add(RECORDS, line)
        return True

    def dispatch_line(self, line: bytes) -> bool:
        """Add the lines of a record that another collector has stored as the JSON `line`.

        Returns whether one of them is for the stores. Raises RecordRejected if the line is not a record.
        """
        if not line.startswith(b"{") or not line.endswith(b"}\n"):
            raise RecordRejected("not-a-record", "no line of JSON")
        if self._only_output is not None:
            self.batch.add(self._only_output, line)
            return self.has_stores
        record = read_record(line)
        for index in self._router.route(*_source_of(record)):
            template = self._templates[index]
            output = self._files.of_record(index, record, self.batch)
            self.batch.add(output, line if template is None else text_line(template, record, line))
        return self._add_record(record, line)

    def dispatch_lines(self, lines: bytes, count: int) -> bool:
        """Do `dispatch_line` for `count` lines at once; return False, and add none, if that is not possible.

        Only for a Dispatcher whose `new_lines` is batch_builder.Lines. With stores, all lines are for the stores.
        """
        output_id = self._only_output
        # A line of JSON has no newline inside, so these counts check each line as dispatch_line does.
        if (
            output_id is None
            or not lines.startswith(b"{")
            or not lines.endswith(b"}\n")
            or lines.count(b"}\n{") != count - 1
            or lines.count(b"\n") != count
        ):
            return False
        self.batch.extend(output_id, lines, count)
        return True

    def reject(self, peer: str, received_s: float, reason: str, detail: str, head: bytes, size: int) -> None:
        """Add an entry about a rejected frame to rejected.jsonl, unless there were too many."""
        self.last_rejection = f"{reason}, {detail}"
        self._rejections.count(reason)
        if self._admits_entry(peer, received_s):
            self.batch.add(REJECTED_OUTPUT, render_rejected(peer, received_s, reason, detail, head, size))

    def note_gap(self, peer: str, received_s: float, client: str, count: int, detail: str) -> None:
        """Add an entry about records that a client reports as dropped, unless there were too many entries."""
        if self._admits_entry(peer, received_s):
            self.batch.add(REJECTED_OUTPUT, render_gap(peer, received_s, client, count, detail))

    def _admits_entry(self, peer: str, received_s: float) -> bool:
        """Tell whether rejected.jsonl gets an entry about a peer; report those left out before it."""
        left_out = self._rejections.admit_entry(peer)
        if left_out > 0:
            what = f"not listed here, before this one: {format_count(left_out, 'rejected frame')}"
            self.batch.add(REJECTED_OUTPUT, render_rejected(peer, received_s, "left-out", what, b"", 0))
        return left_out >= 0


def _cut_json_line(record: Record, *_: object) -> bytes:
    """Return the line of JSON of a record that was cut already: it is not cut again by its length."""
    return render_json(record)


def _filter_of(settings: Filter) -> tuple[int, Sequence[str], Sequence[str], Sequence[str]]:
    """Return the filter of an output or a store, in the form that a core takes."""
    return settings.levelno, settings.loggers, settings.services, settings.environments


def _source_of(record: Record) -> tuple[str, int, str, str]:
    """Return what a Router looks at."""
    return record.name or "", record.levelno or 0, record.service or "", record.environment or ""


def warm_up(configuration: Configuration) -> None:
    """Handle a few hundred records, and drop their lines.

    After a fork the first write to each page copies it, so the first records of a process cost several times as much as
    later ones. The warm-up pays that before clients wait.
    """
    dispatcher = Dispatcher(configuration)
    attributes = {
        "name": "warm.up",
        "msg": "x",
        "args": None,
        "levelno": 0,
        "created": 1.0,
        "lineno": 1,
        "key": "value",
    }
    frame = pickle.dumps(attributes, 1)
    run = (len(frame).to_bytes(4, "big") + frame) * WARM_UP_RECORDS
    dispatcher.run(run, 0, WARM_UP_RECORDS, len(frame), "", 1.0)
    # The Python path, too: the core leaves some frames to it.
    for _ in range(WARM_UP_RECORDS):
        dispatcher._dispatch(frame, "", 1.0)  # noqa: SLF001 - its own module
    dispatcher.batch.build(0)

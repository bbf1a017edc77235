"""Declares the settings of `[[output]]`.

Owns their types, defaults, bounds and help. Opens no file.
"""

from __future__ import annotations

import importlib.util
import re
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from prefork_logd.config import output_paths
from prefork_logd.config.values import (
    MOST_BYTES,
    MOST_FILES,
    TimedSettings,
    durations,
    is_a_second,
    level_number,
    sender_problems,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


DEFAULT_TEMPLATE = "%(asctime)s %(levelname)s %(name)s %(message)s"
_TEMPLATE_FIELD = re.compile(r"%(?:%|\(([^()]+)\)[#0\- +]*\d{0,4}(?:\.\d{1,4})?([diouxXeEfFgGcrsa]))")


class OutputSettings(TimedSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file that records are written to; a record goes to every output whose level and loggers match.

    An output whose path has fields has a file for each of their values.
    """

    DURATIONS = durations(rotate_every=0.0, keep_for=0.0)

    name: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9_.-]+\Z", examples=["shop"], description="Its name in status and messages, unique."),
    ] = "records"
    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="Path of the file, relative to state_dir. Missing directories are created. It may have fields: "
            "{service}, {environment}, {host}, {version}, {logger}, {level}, {date} ([outputs](outputs.md)); "
            "{{ and }} are braces.",
        ),
    ] = "records.jsonl"
    format: Annotated[
        Literal["json", "text"],
        Meta(description='"json": one object a line; "text": `template`, continuation lines start with a tab.'),
    ] = "json"
    template: Annotated[
        str,
        Meta(
            description="Text format only: logging's own % names (those of LogRecord, asctime, and any attribute of "
            "`extra`).",
        ),
    ] = DEFAULT_TEMPLATE
    level: Annotated[
        str | int,
        Meta(description='Lowest level written: a name ("WARNING"; docs/query.md has all) or a number (35).'),
    ] = "NOTSET"
    loggers: Annotated[
        tuple[str, ...],
        Meta(description="Loggers written, each with its children, as logging.Filter does; empty: all."),
    ] = ()
    services: Annotated[
        tuple[str, ...],
        Meta(description="Services whose records are written, by the field `service`; empty: all, also without one."),
    ] = ()
    environments: Annotated[
        tuple[str, ...],
        Meta(description="Environments whose records are written, by the field `environment`; empty: all."),
    ] = ()
    rotate_bytes: Annotated[
        int,
        Meta(ge=0, le=MOST_BYTES, description="Rotate when the file has grown to this many bytes; 0: never by size."),
    ] = 0
    rotate_every: Annotated[
        str,
        Meta(description='Rotate after this time, such as "1h" or "1d"; empty: never by time.'),
    ] = ""
    keep: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_FILES,
            description="Number of files kept by the collector's own rotation, the newest ones; 0: all.",
        ),
    ] = 10
    keep_bytes: Annotated[
        int,
        Meta(
            ge=0,
            le=MOST_BYTES,
            description="Above this many bytes rotated files are removed, the oldest first; 0: no limit.",
        ),
    ] = 0
    keep_for: Annotated[
        str,
        Meta(
            description='Path with fields only: files whose last line is older than this, such as "30d", are removed; '
            "empty: never."
        ),
    ] = ""
    max_open_files: Annotated[
        int,
        Meta(ge=1, le=65_536, description="Path with fields only: most files that are open at once."),
    ] = 256
    max_new_files: Annotated[
        int,
        Meta(
            ge=1,
            le=MOST_FILES,
            description="Path with fields only: most files that are begun in a day (UTC); one client begins at most "
            'half of them. Records of further ones go to the file in whose name every field is "_other".',
        ),
    ] = 2000
    compress: Annotated[
        Literal["none", "gzip", "zstd"],
        Meta(description='Compress rotated files; "zstd" needs the extra: pip install "prefork-logd[zstd]".'),
    ] = "none"
    on_error: Annotated[
        Literal["block", "skip"],
        Meta(
            description='While the file cannot be written (a full disk, a FIFO without a reader): with "block" clients '
            'wait until it works again, and no record is missing; with "skip" records are left out of this output, and '
            "counted in `status`; clients do not wait.",
        ),
    ] = "block"
    mode: Annotated[
        str,
        Meta(
            pattern=r"^0?[0-7]{3}\Z",
            examples=["0640"],
            description="Permissions of the file, octal; directories get x where it has r.",
        ),
    ] = "0640"

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        if "\0" in self.path:
            yield "path", "holds a NUL character, which a path cannot"
        yield from (("path", problem) for problem in output_paths.problems(self.path))
        try:
            level_number(self.level)
        except ValueError as error:
            yield "level", str(error)
        yield from (("template", problem) for problem in template_problems(self.template))
        if any(not name for name in self.loggers):
            yield "loggers", "holds an empty name; leave the list empty to write every logger"
        yield from sender_problems(self.services, self.environments)
        yield from self.duration_problems("rotate_every", is_a_second, 'must be one second or more, such as "1h"')
        yield from self.duration_problems("keep_for", is_a_second, 'must be one second or more, such as "30d"')
        if self.keep_for and not self.has_fields:
            yield "keep_for", "is for a path with fields, such as {service}; use keep or keep_bytes"
        if self.compress == "zstd" and importlib.util.find_spec("zstandard") is None:
            yield "compress", 'zstd needs a package that is not installed: pip install "prefork-logd[zstd]"'

    def __post_init__(self) -> None:
        """Read the durations, and find out whether the path has fields."""
        super().__post_init__()
        try:
            found = output_paths.has_fields(self.path)
        except ValueError:
            found = False
        self.__dict__["_has_fields"] = found

    @property
    def has_fields(self) -> bool:
        """Whether `path` has fields, so that the output has a file for each of their values."""
        return bool(self.__dict__["_has_fields"])

    @property
    def file_path(self) -> str:
        """The path of the one file of an output without fields."""
        try:
            return output_paths.literal_path(self.path)
        except ValueError:  # `problems` has reported it.
            return self.path

    @property
    def keep_for_s(self) -> float:
        """`keep_for` in seconds; 0: no limit."""
        return self.seconds("keep_for")

    @property
    def files_a_batch(self) -> int:
        """Most files that one batch of a worker has lines for, so that several fit into `max_open_files`."""
        return max(1, self.max_open_files // 4)

    @property
    def levelno(self) -> int:
        """`level` as a number."""
        return level_number(self.level)

    @property
    def rotate_every_s(self) -> float:
        """`rotate_every` in seconds; 0: never."""
        return self.seconds("rotate_every")

    @property
    def file_mode(self) -> int:
        """`mode` as a number."""
        return int(self.mode, 8)


def template_problems(template: str) -> Iterator[str]:
    """Yield a sentence for each directive of a text template that cannot be filled in."""
    rest = _TEMPLATE_FIELD.sub("", template)
    if "%" in rest:
        place = rest[rest.index("%") :][:12]
        yield f"{place!r} is not a directive; write %(name)s, with a width below 10000, and %% for a percent sign"
    if not template.strip():
        yield "is empty, and would make every line empty; leave it out for the default"


DEFAULT_OUTPUTS = (
    OutputSettings(rotate_bytes=2_000_000_000, rotate_every="1d", keep=0, keep_bytes=10_000_000_000, compress="gzip"),
)
"""The outputs of a configuration without `output`: a new collector must never fill a disk."""

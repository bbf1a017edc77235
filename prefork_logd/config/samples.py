"""Declares the settings of `[[sample]]`: records of which only some are stored.

Owns their types, defaults, bounds and help. Does not know how records are chosen (ingest/sampling.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from prefork_logd.config.values import TableSettings, level_number, sender_problems

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_SAMPLES = 16
"""Most tables of this kind: each is compared with every record."""
MAX_FIELDS = 8


class SampleSettings(TableSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Records of which only some are stored. The first table that matches a record decides about it.

    A kept record has in `extra.sample_rate` how many records it stands for ([record](record.md#sampled-records)).
    """

    level: Annotated[
        str | int,
        Meta(description='Lowest level sampled: a name ("DEBUG"; docs/query.md has all) or a number.'),
    ] = "NOTSET"
    below: Annotated[
        str | int,
        Meta(description="Records of this level and above are all kept."),
    ] = "WARNING"
    loggers: Annotated[
        tuple[str, ...],
        Meta(description="Loggers sampled, each with its children, as logging.Filter does; empty: all."),
    ] = ()
    services: Annotated[
        tuple[str, ...],
        Meta(description="Services whose records are sampled, by the field `service`; empty: all, also without one."),
    ] = ()
    environments: Annotated[
        tuple[str, ...],
        Meta(description="Environments whose records are sampled, by the field `environment`; empty: all."),
    ] = ()
    fields: Annotated[
        dict[str, str | bool | int],
        Meta(
            max_length=MAX_FIELDS,
            description='Attributes of `extra` that a sampled record has, such as {path = "/health"}; empty: any.',
        ),
    ] = {}  # noqa: RUF012 - msgspec makes a new one for each
    keep_one_of: Annotated[
        int,
        Meta(ge=0, le=1_000_000, description="Keep one of this many records for each key; 0: use `keep_per_second`."),
    ] = 0
    keep_per_second: Annotated[
        float,
        Meta(
            ge=0,
            le=1_000_000,
            description="Keep at most this many records a second for each key, over all workers; 0: use `keep_one_of`.",
        ),
    ] = 0
    per: Annotated[
        tuple[Literal["service", "logger", "level"], ...],
        Meta(description="Records that are counted together have these in common; they are one key. Empty: all."),
    ] = ("service", "logger", "level")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yield (key, sentence) for every value of the right type that cannot be used."""
        numbers = []
        for key in ("level", "below"):
            try:
                numbers.append(level_number(getattr(self, key)))
            except ValueError as error:
                yield key, str(error)
        if len(numbers) == 2 and numbers[0] >= numbers[1]:
            yield "level", f"is not lower than below ({self.below}), so no record is sampled; lower it, or raise below"
        if any(not name for name in self.loggers):
            yield "loggers", "holds an empty name; leave the list empty to sample every logger"
        yield from sender_problems(self.services, self.environments)
        if bool(self.keep_one_of) == bool(self.keep_per_second):
            yield "", "needs either keep_one_of or keep_per_second"
        if self.keep_one_of == 1:
            yield "keep_one_of", "keeps every record if it is 1; write 2 or more, or leave the table out"
        if any(isinstance(value, int) and not -(1 << 63) <= value < 1 << 63 for value in self.fields.values()):
            yield "fields", "holds a number beyond 64 bits; write a smaller one"

    @property
    def levelno(self) -> int:
        """`level` as a number."""
        return level_number(self.level)

    @property
    def below_levelno(self) -> int:
        """`below` as a number."""
        return level_number(self.below)

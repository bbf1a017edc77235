"""Answers facets and statistics of a search by SQL, where SQL counts as the specification does.

Owns the choice between SQL and lines. Does not know how rows are fetched: the search that inherits it does.

DuckDB holds all values of a field in a block of records. Where these are megabytes, its memory is too small; the lines
are then read one by one, which takes longer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from prefork_logd.errors import QueryMemoryError
from prefork_logd.query.analysis import sort_rows
from prefork_logd.query.by_lines import Newest, SearchByLines
from prefork_logd.query.filters import Filters
from prefork_logd.query.long_values import key_of_column, key_of_text, value_of_key
from prefork_logd.query.patterns import MOST_CHARACTERS
from prefork_logd.query.search import Coverage, Facet, Facets, FacetValue, Table
from prefork_logd.query.statistics import MOST_GROUPS
from prefork_logd.records.stored import read_fields
from prefork_logd.stores.parquet.analysis_sql import facet_statement, plain_column, stats_statement, value_of
from prefork_logd.stores.parquet.filters_sql import order_of
from prefork_logd.stores.parquet.tree_sql import Compiler, compile_tree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from prefork_logd.query.conditions import Field
    from prefork_logd.query.statistics import Statistics
    from prefork_logd.stores.parquet.tree_sql import Compiled

MOST_SORTED = 10_000
"""Up to so many records are picked exactly, by sorting."""


class Analysis(SearchByLines):
    """The part of a search that computes facets and statistics."""

    def choose(self, filters: Filters, compiler: Compiler, most: int | None) -> tuple[str, bool] | None:
        """Return a query of the matching records, and whether it leaves none out; None: lines have to be judged."""
        raise NotImplementedError

    def rows(self, filters: Filters, condition: Compiled, columns: str) -> Iterator[Sequence[Any]]:
        """Yield columns of the records that meet an exact condition, and of all with a line beside their columns.

        They come in order. `created` is the first column.
        """
        raise NotImplementedError

    def ask(self, statement: str, compiler: Compiler) -> Iterator[Sequence[Any]]:
        """Yield the rows of a statement."""
        raise NotImplementedError

    def newest(self, chosen: str, most: int, count: int, compiler: Compiler) -> str:
        """Return a query of the newest of the `count` records of a query: `most`, or about so many if that is large."""
        if most <= MOST_SORTED:
            return f"(SELECT * FROM ({chosen}) ORDER BY {order_of(Filters(order='newest'))} LIMIT {most})"
        # Sorting takes memory for all columns of so many records.
        quantile = f"SELECT approx_quantile(created, {1 - most / count!r}::FLOAT) FROM ({chosen})"
        [(cut,)] = self.ask(quantile, compiler)
        return f"(SELECT * FROM ({chosen}) WHERE created >= {cut!r}::DOUBLE)"

    def facets(self, filters: Filters, fields: Sequence[Field], top: int) -> Facets:
        """Return the most frequent values of each field."""
        compiler = Compiler()
        chosen = self.choose(filters, compiler, self.limits.most_records)
        values = [value_of(field, compiler.parameter) for field in fields]
        if chosen is None or None in values:
            return super().facets(filters, fields, top)
        found = []
        records = 0
        try:
            for field, value in zip(fields, values, strict=True):
                facet, records = self._facet(field, str(value), chosen[0], compiler, top)
                found.append(facet)
        except QueryMemoryError:
            return super().facets(filters, fields, top)
        return Facets(found, Coverage(records, chosen[1]))

    def _facet(self, field: Field, value: str, chosen: str, compiler: Compiler, top: int) -> tuple[Facet, int]:
        """Return a facet, and the number of records that it is about."""
        plain = plain_column(field)
        statement = facet_statement(chosen, plain or value, top, is_plain=plain is not None)
        counts: Counter[str] = Counter()
        missing = records = 0
        for key, count, total in self.ask(statement, compiler):
            records = int(total)
            if key is None:
                missing = int(count)
            else:
                counts[key_of_text(key) if plain is None else key_of_column(key)] += int(count)
        best = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:top]
        values = [FacetValue(value_of_key(key), count) for key, count in best]
        others = records - missing - sum(count for _, count in best)
        return Facet(field.written, values, others, missing), records

    def _newest_messages(self, filters: Filters, most: int) -> Newest:
        """Return the newest records; where the condition is exact only with `message` and `created`."""
        condition = compile_tree(filters.tree)
        if not condition.is_exact:
            return super()._newest_messages(filters, most)

        def read() -> Iterator[dict[str, Any]]:
            ordered = replace(filters, order="newest", limit=most + 1)
            columns = f"created, left(message, {MOST_CHARACTERS}), line"
            for created, message, line in self.rows(ordered, condition, columns):
                if line is None:
                    yield {"created": created, "message": message or ""}
                elif filters.matches(record := read_fields(line.encode() + b"\n")):
                    yield record

        return Newest(read(), most)

    def stats(self, filters: Filters, statistics: Statistics) -> Table:
        """Return aggregates by groups."""
        compiler = Compiler()
        chosen = self.choose(filters, compiler, self.limits.most_records)
        statement = stats_statement(chosen[0], statistics, compiler.parameter) if chosen is not None else None
        if chosen is None or statement is None:
            return super().stats(filters, statistics)
        width = len(statistics.by)
        rows: list[list[Any]] = []
        groups = records = 0
        try:
            answer = [*self.ask(statement, compiler)]
        except QueryMemoryError:
            return super().stats(filters, statistics)
        for *row, groups_found, records_found in answer:
            groups, records = groups_found, int(records_found or 0)
            rows.append(
                [*(None if key is None else value_of_key(key_of_text(key)) for key in row[:width]), *row[width:]]
            )
        return Table(
            statistics.columns, sort_rows(rows, width)[:MOST_GROUPS], groups - len(rows), Coverage(records, chosen[1])
        )

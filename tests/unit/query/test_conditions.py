"""Names of fields in a query, and where a record has them."""

from __future__ import annotations

import pytest

from prefork_logd.query.conditions import SHORT_NAMES, find_field
from prefork_logd.records.record import Record


def test_every_field_of_a_record_is_one_of_a_query() -> None:
    """Under its own name; `time` is compared by `created`."""
    for name in Record.__struct_fields__:
        assert find_field((name,)).paths == ((SHORT_NAMES.get(name, name),),)


def test_short_names_are_no_fields() -> None:
    """Apart from `time`, which is one, so none hides a field."""
    assert SHORT_NAMES.keys() & set(Record.__struct_fields__) == {"time"}
    assert set(SHORT_NAMES.values()) <= set(Record.__struct_fields__)


@pytest.mark.parametrize(
    ("keys", "paths"),
    [
        (("tenant",), [("extra", "tenant")]),
        (("extra", "tenant"), [("extra", "tenant")]),
        (("user", "id"), [("extra", "user", "id"), ("extra", "user.id")]),
        (("extra", "user", "id"), [("extra", "user", "id"), ("extra", "user.id")]),
        (("service", "name"), [("extra", "service", "name"), ("extra", "service.name")]),
        (("exception", "0", "type"), [("exception", "0", "type")]),
    ],
)
def test_other_names_are_keys_of_extra(keys: tuple[str, ...], paths: list[tuple[str, ...]]) -> None:
    """A dotted one is one key, or keys of nested objects."""
    assert list(find_field(keys).paths) == paths


def test_quotes_take_a_name_as_it_is() -> None:
    """It is no short name, and its dots belong to it."""
    assert find_field(("level",), has_quotes=True).paths == (("extra", "level"),)
    assert find_field(("user", "id"), has_quotes=True).paths == (("extra", "user", "id"),)

"""Secrets in JSON that is not read go by the names of their keys, and everything else stays as it is."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.records.json_text import redact_json, redact_texts

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "pwd", '"', "pw\u0064"]), inner),
    max_leaves=12,
)


def is_secret(key: str) -> bool:
    return key == "pwd"


def redact(text: str) -> str:
    return redact_json(text, is_secret, "*")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"pwd":"x"}', '{"pwd":"*"}'),
        ('{"pwd" : 5, "b": 1}', '{"pwd" : "*", "b": 1}'),
        ('[{"pwd":{"a":["]}",{"pwd":1}]}},2]', '[{"pwd":"*"},2]'),
        ('{"pwd":[1,"\\"]",2],"n":[1]}', '{"pwd":"*","n":[1]}'),
        ('{"\\u0070wd":"x"}', '{"\\u0070wd":"*"}'),
        ('{"pwd":null,"a":{"pwd":true}}', '{"pwd":null,"a":{"pwd":true}}'),
        ('{"a":"pwd","b":"\\"pwd\\":1"}', '{"a":"pwd","b":"\\"pwd\\":1"}'),
        ('["pwd","x"]', '["pwd","x"]'),
        ('{"a":1,"pwd":"cut o', '{"a":1,"pwd":"*"'),
        ('{"a":1,"pwd":[1,{"b":', '{"a":1,"pwd":"*"'),
        ('{"pwd":', '{"pwd":'),
        ("[INFO] no JSON: {pwd: 1}", "[INFO] no JSON: {pwd: 1}"),
        ('{"\\uZZ":1,"pwd":1}', '{"\\uZZ":1,"pwd":"*"}'),
        ('[{"Name":"pwd", "VALUE":"x","value":"y"}]', '[{"Name":"pwd", "VALUE":"*","value":"y"}]'),
        ('{"key":"\\u0070wd","value":[1,{"a":2}]}', '{"key":"\\u0070wd","value":"*"}'),
        ('{"name":"pwd","value":null,"n":"pwd"}', '{"name":"pwd","value":null,"n":"pwd"}'),
        ('{"name":"a","value":"pwd","names":"pwd","value":1}', '{"name":"a","value":"pwd","names":"pwd","value":1}'),
    ],
)
def test_the_value_of_a_key_is_replaced(text: str, expected: str) -> None:
    """Whatever it is, as far as it goes; null, true and false stay."""
    assert redact(text) == expected


def without(value: object) -> object:
    """Return what is expected of a value that was read."""
    if isinstance(value, dict):
        return {
            key: "*" if key == "pwd" and item is not None and not isinstance(item, bool) else without(item)
            for key, item in value.items()
        }
    return [without(item) for item in value] if isinstance(value, list) else value


@given(PLAIN, st.booleans(), st.sampled_from([None, 2]))
def test_a_text_means_what_its_values_mean(value: object, ascii_only: bool, indent: int | None) -> None:
    """However it is written."""
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert json.loads(redact(text)) == without(value)


def test_texts_are_found_at_any_depth() -> None:
    """Of lists and objects only; the value itself is not changed, and is returned if there is nothing to replace."""
    text = '{"pwd":1}'
    value = {"a": [text, {"b": text}], "n": 1, "s": "pwd", "t": "[1]"}
    assert redact_texts(value, is_secret, "*") == (
        {"a": ['{"pwd":"*"}', {"b": '{"pwd":"*"}'}], "n": 1, "s": "pwd", "t": "[1]"}, True
    )  # fmt: skip
    assert value["a"] == [text, {"b": text}]
    plain = {"a": ["[1]", {"b": "x"}]}
    found, changed = redact_texts(plain, is_secret, "*")
    assert (found is plain, changed) == (True, False)


@pytest.mark.parametrize(
    "text",
    ['{"pwd":' * 100_000, '{"pwd":[' * 80_000, "[" * 500_000, '{"pwd":"' + "\\" * 500_000, '"' * 500_000,
     '"a":' * 100_000, '{"name":"pwd",' * 40_000, '"name":"pwd","value":' * 25_000],
    ids=["objects", "lists", "brackets", "backslashes", "quotes", "keys", "names", "values"],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    """What decides is that nothing grows faster than the text; measured in CPU time."""
    start = time.thread_time()
    redact(text)
    assert time.thread_time() - start < 2.0  # 0.1 s at most on a machine at rest

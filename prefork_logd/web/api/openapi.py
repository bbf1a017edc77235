"""Describes the API as an OpenAPI document (3.1), from its calls and the types of their answers.

Owns the document's form. Does not know what a call does.
"""

from __future__ import annotations

import ast
import functools
import inspect
from typing import TYPE_CHECKING, Any

import msgspec

from prefork_logd import __version__
from prefork_logd.alerts import book as alert_book
from prefork_logd.stores.errors import book
from prefork_logd.web import saved_searches
from prefork_logd.web.api import alerts, answers, errors, searches
from prefork_logd.web.api.endpoint import Call

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefork_logd.web.api.endpoint import Asked
    from prefork_logd.web.api.parameters import Parameter

REFERENCE = "#/components/schemas/{name}"
_IN_PATHS: dict[str, tuple[str, dict[str, Any]]] = {
    "id": ("Id of the record.", {"pattern": r"^[0-9a-f]{32}-\d{1,18}$"}),
    "key": ("Id of the group, or its beginning.", {"maxLength": 100}),
    "rule": ("Name of the rule.", {"maxLength": 64}),
}
_STATUSES = {
    "400": "The request is wrong; `parameter` and `column` say where.",
    "401": "Not logged in, and no valid token.",
    "403": "The user may not do this.",
    "404": "There is no such record, group or rule.",
    "413": "The request is too large.",
    "422": "The query needs more memory than a search may use; it has to be narrowed.",
    "503": "Too many searches run at once, or the store or the collector cannot answer now.",
    "504": "The search took longer than its deadline.",
}


def make_call(calls: Sequence[Call]) -> Call:
    """Return the call that answers with the document about `calls` and itself."""

    async def openapi(_: Asked) -> dict[str, Any]:
        return described

    call = Call(path="/openapi.json", summary="Get this document.", handle=openapi, answer=dict[str, Any])
    described = document((*calls, call))
    return call


def document(calls: Sequence[Call]) -> dict[str, Any]:
    """Return the document about some calls."""
    types = [call.answer for call in calls if not isinstance(call.answer, str)]
    types += [call.body for call in calls if call.body is not None]
    schemas, components = msgspec.json.schema_components([*types, answers.Problem], ref_template=REFERENCE)
    by_type = dict(zip(map(repr, types), schemas, strict=False))
    for name, texts in _descriptions().items():
        for field, text in texts.items():
            if field in components.get(name, {}).get("properties", {}):
                components[name]["properties"][field]["description"] = text
    paths: dict[str, Any] = {}
    for call in calls:
        paths.setdefault(call.path, {})[call.method.lower()] = _operation(call, by_type)
    return {
        "openapi": "3.1.0",
        "info": {"title": "prefork-logd", "version": __version__},
        "servers": [{"url": "/api/v1"}],
        "security": [{"token": []}, {"session": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "header", "name": "Cookie"},
            },
        },
    }


def _operation(call: Call, by_type: dict[str, Any]) -> dict[str, Any]:
    if isinstance(call.answer, str):
        content: dict[str, Any] = {media: {"schema": {"type": "string"}} for media in call.answer.split(", ")}
    else:
        content = {"application/json": {"schema": by_type[repr(call.answer)]}}
    error = {"application/json": {"schema": {"$ref": REFERENCE.format(name="Problem")}}}
    operation: dict[str, Any] = {
        "operationId": f"{call.method.lower()}_{_named(call.path)}",
        "summary": call.summary,
        "description": f"Needs the right `{call.scope}`{'' if call.for_shares else '; not for share links'}.",
        "parameters": [*_path_parameters(call.path), *map(_parameter, call.parameters)],
        "responses": {
            "200": {"description": "The answer.", "content": content},
            **{status: {"description": text, "content": error} for status, text in _STATUSES.items()},
        },
    }
    if call.body is not None:
        body = {"application/json": {"schema": by_type[repr(call.body)]}}
        operation["requestBody"] = {"required": True, "content": body}
    return operation


def _named(path: str) -> str:
    for name in _IN_PATHS:
        path = path.replace(f"{{{name}}}", "one")
    return path.strip("/").replace("/", "_")


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "description": text, "schema": {"type": "string", **schema}}
        for name, (text, schema) in _IN_PATHS.items()
        if f"{{{name}}}" in path
    ]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind == "choice":
        schema: dict[str, Any] = {"type": "string", "enum": [*parameter.choices]}
    elif parameter.kind == "text":
        schema = {"type": "string", "maxLength": int(parameter.most)}
    else:
        kind = "integer" if parameter.kind == "whole number" else "number"
        schema = {"type": kind, "minimum": parameter.least, "maximum": parameter.most}
    if parameter.default is not None:
        schema["default"] = parameter.default
    if parameter.most_values > 1:
        schema = {"type": "array", "items": schema, "maxItems": parameter.most_values}
    found = {"name": parameter.name, "in": "query", "description": parameter.meaning, "schema": schema}
    return {**found, "required": True} if parameter.is_required else found


@functools.cache
def _descriptions() -> dict[str, dict[str, str]]:
    """Return the sentences below the fields of each type of answer: its source has them."""
    found: dict[str, dict[str, str]] = {}
    modules = (alert_book, alerts, answers, book, errors, saved_searches, searches)
    for node in (one for module in modules for one in ast.parse(inspect.getsource(module)).body):
        if isinstance(node, ast.ClassDef):
            texts = found[node.name] = {}
            for field, text in zip(node.body, node.body[1:], strict=False):
                if (
                    isinstance(field, ast.AnnAssign)
                    and isinstance(field.target, ast.Name)
                    and isinstance(text, ast.Expr)
                    and isinstance(text.value, ast.Constant)
                ):
                    texts[field.target.id.rstrip("_")] = " ".join(str(text.value.value).split())
    return found

"""Writes objects of well-known libraries as their usual text or fields, and hides the secrets among them.

Owns the pickled forms of URLs, secrets, patterns, arrays, lazy texts, database rows and models. Part of the table in
known.py, under its rules. None of these libraries is imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefork_logd.inputs.pickles.symbols import Dict, Node, Object, OctetText, Symbol, Tuple, is_call, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefork_logd.inputs.pickles.reader import ValueReader
    from prefork_logd.records.values import Plain

    Known = Callable[[ValueReader, Object, int], Plain]

HIDDEN = "**********"
"""In place of a secret, as pydantic has it."""
MAX_URL_CHARACTERS = 8_192
_SMALL_ARRAY, _FIRST_ITEMS = 100, 10
_TEXT_NODES = 8
"""Putting a text together counts as so many values, as it takes as long."""
_FLAGS = (
    *((2, "re.IGNORECASE"), (4, "re.LOCALE"), (8, "re.MULTILINE"), (16, "re.DOTALL"), (64, "re.VERBOSE")),
    *((128, "re.DEBUG"), (256, "re.ASCII")),
)


def _hidden(reader: ValueReader, _: Object, __: int) -> Plain:
    return reader.text(HIDDEN)


def state_of(reader: ValueReader, node: Object, name: str) -> Node:
    """Return an attribute in an object's state; None if it has none of this name."""
    state = node.state
    if type(state) is Tuple and len(state.items) == 2:
        state = state.items[1] if type(state.items[1]) is Dict else state.items[0]
    if type(state) is not Dict:
        return None
    reader.charge_nodes(len(state.flat) // 2)
    for key, value in zip(state.flat[::2], state.flat[1::2], strict=True):
        if text_of(key, len(name)) == name:
            return value
    return None


# URLs


def _texts(reader: ValueReader, parts: list[Node]) -> list[str] | None:
    """Return texts, empty for None; None if there is something else among them, or too much."""
    reader.charge_nodes(_TEXT_NODES)
    found = [
        "" if part is None else str(part) if type(part) is int else text_of(part, MAX_URL_CHARACTERS) for part in parts
    ]
    texts = [part for part in found if part is not None]
    if len(texts) != len(parts) or sum(map(len, texts)) > MAX_URL_CHARACTERS:
        return None
    return texts


def _without_password(userinfo: str) -> str:
    user, colon, _ = userinfo.partition(":")
    return f"{user}:***" if colon else user


def _url_text(scheme: str, authority: str, path: str, query: str, fragment: str) -> str:
    """Return a URL's text without its password (RFC 3986, section 5.3)."""
    userinfo, at, host = authority.rpartition("@")
    authority = _without_password(userinfo) + at + host
    return (
        (f"{scheme}:" if scheme else "")
        + (f"//{authority}" if authority else "")
        + path
        + (f"?{query}" if query else "")
        + (f"#{fragment}" if fragment else "")
    )


def _split_url(reader: ValueReader, parts: Node) -> Plain:
    """Read scheme, authority, path, query and fragment, as urllib.parse.SplitResult has them."""
    texts = _texts(reader, parts) if type(parts) is list and len(parts) == 5 else None
    return None if texts is None else reader.text(_url_text(*texts))


def _yarl(reader: ValueReader, node: Object, _: int) -> Plain:
    """Read yarl.URL, whose state is one tuple of five parts, in one more tuple or in a pair."""
    parts = node.state
    while type(parts) is Tuple and len(parts.items) == 1:
        parts = parts.items[0]
    if type(parts) is Tuple and len(parts.items) == 2 and type(parts.items[1]) is Dict:
        parts = state_of(reader, node, "_val")
    if type(parts) is Object and not parts.has_state:  # urllib.parse.SplitResult
        return _split_url(reader, parts.args)
    return _split_url(reader, parts.items) if type(parts) is Tuple else None


def _split_result(reader: ValueReader, node: Object, _: int) -> Plain:
    """Read results of urllib's urlsplit and urlparse; the latter have the parameters of the path apart."""
    args = [_ascii_of(part) for part in node.args] if node.is_bare and len(node.args) <= 6 else []
    if len(args) == 6 and all(type(part) is str for part in args):
        path, parameters = args.pop(2), args.pop(2)
        args.insert(2, f"{path};{parameters}" if parameters else path)
    return _split_url(reader, args)


def _ascii_of(part: Node) -> Node:
    """Return a text for the octets of a URL, also as they are pickled below protocol 3; another node as it is."""
    if type(part) is bytes and len(part) <= MAX_URL_CHARACTERS:
        return part.decode("ascii", "backslashreplace")
    if type(part) is OctetText:
        return text_of(part, MAX_URL_CHARACTERS)
    if is_call(part, "_codecs", "encode") and len(part.args) == 2:
        return text_of(part.args[0], MAX_URL_CHARACTERS)
    return "" if is_call(part, "builtins", "bytes") and not part.args else part


def _httpx(reader: ValueReader, node: Object, _: int) -> Plain:
    """Read httpx.URL: scheme, userinfo, host, port, path, query and fragment in a tuple of its own class."""
    parts = state_of(reader, node, "_uri_reference")
    texts = _texts(reader, parts.args) if type(parts) is Object and len(parts.args) == 7 else None
    if texts is None:
        return None
    scheme, userinfo, host, port, path, query, fragment = texts
    authority = (f"{userinfo}@" if userinfo else "") + host + (f":{port}" if port else "")
    return reader.text(_url_text(scheme, authority, path, query, fragment))


def _database_url(reader: ValueReader, node: Object, _: int) -> Plain:
    """Read SQLAlchemy's URL, without its query: that may have a password, too."""
    texts = _texts(reader, node.args[:6]) if node.is_bare and len(node.args) == 7 else None
    if texts is None:
        return None
    driver, user, password, host, port, database = texts
    userinfo = user + (":***" if password else "")
    authority = (f"{userinfo}@" if userinfo else "") + host + (f":{port}" if port else "")
    return reader.text(f"{driver}://{authority}" + (f"/{database}" if database else ""))


# Texts and numbers


def _pattern(reader: ValueReader, node: Object, _: int) -> Plain:
    """Return the repr() of a compiled regular expression."""
    match node.args if node.is_bare else None:
        case [(str() | OctetText()) as pattern, int(flags), *_] if len(pattern) <= MAX_URL_CHARACTERS:
            reader.charge_nodes(_TEXT_NODES)
            names = [name for bit, name in _FLAGS if flags & bit]
            text = pattern if isinstance(pattern, str) else pattern.text()
            return reader.text(f"re.compile({text!r}{', ' if names else ''}{'|'.join(names)})")
    return None


def _array(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read array.array: the code of its items, and a list of them."""
    match node.args if node.is_bare else None:
        case [code, list(items)] if text_of(code, 1):
            if len(items) <= _SMALL_ARRAY:
                return reader.sequence(items, depth)
            first = reader.sequence(items[:_FIRST_ITEMS], depth + 1)
            code_text = reader.text(text_of(code, 1) or "")
            return {"__class__": "array.array", "shape": [len(items)], "dtype": code_text, "first": first}
    return None


def _lazy_text(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read a text that Django translates later: a function's name, its arguments, and their keywords."""
    match node.args if node.is_bare else None:
        case [Symbol(), Tuple(items=[str(text), *_]), *_]:
            return reader.plain(text, depth)
        case [Symbol(), Tuple(items=[_, str(text), *_]), *_]:
            return reader.plain(text, depth)
    return None


def _first_text(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read a subclass of str that is pickled as a call: multidict.istr, the names of headers in aiohttp."""
    match node.args if node.is_bare else None:
        case [str(text)]:
            return reader.plain(text, depth)
    return None


# Objects


def _namespace(reader: ValueReader, node: Object, depth: int) -> Plain:
    if node.args or node.kwargs or node.items or node.flat:
        return None
    return reader.public(node.state.flat, depth) if type(node.state) is Dict else {}


def _wrapper(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read UserDict, UserList and UserString, which keep their content in `data`."""
    return None if node.args else reader.plain(state_of(reader, node, "data"), depth)


def _mapping(reader: ValueReader, node: Object, depth: int) -> Plain:
    match node.args if node.is_bare else None:
        case [Dict(flat=flat)]:
            return reader.mapping(flat, depth)
    return None


def _row(reader: ValueReader, node: Object, depth: int) -> Plain:
    """Read a row of SQLAlchemy: its keys are those of the result."""
    match node.args if node.is_bare else None:
        case [Symbol(), Dict(flat=flat)] if len(flat) <= 16:
            state = {key: value for key, value in zip(flat[::2], flat[1::2], strict=True) if type(key) is str}
            data, parent = state.get("_data"), state.get("_parent")
            keys = state_of(reader, parent, "_keys") if type(parent) is Object else None
            if type(data) is Tuple and type(keys) is list and len(keys) == len(data.items):
                reader.charge_nodes(2 * len(keys))
                pairs = [part for pair in zip(keys, data.items, strict=True) for part in pair]
                return reader.mapping(pairs, depth)
    return None


def _django_model(reader: ValueReader, node: Object, depth: int) -> Plain:
    return reader.public(node.state.flat, depth) if type(node.state) is Dict else None


LIBRARIES: dict[tuple[str, str], Known] = {
    **{
        (module, name): _hidden
        for module in ("pydantic.types", "pydantic.v1.types")
        for name in ("SecretStr", "SecretBytes", "Secret")
    },
    ("starlette.datastructures", "Secret"): _hidden,
    ("yarl", "URL"): _yarl,
    ("yarl._url", "URL"): _yarl,
    ("httpx", "URL"): _httpx,
    ("httpx._urls", "URL"): _httpx,
    # Below protocol 3, Python 3 gives modules the names of Python 2.
    **{
        (module, name + kind): _split_result
        for module in ("urllib.parse", "urlparse")
        for name in ("SplitResult", "ParseResult")
        for kind in ("", "Bytes")
    },
    **{(module, "istr"): _first_text for module in ("multidict", "multidict._multidict", "multidict._multidict_py")},
    ("sqlalchemy.engine.url", "URL"): _database_url,
    ("re", "_compile"): _pattern,
    ("_regex_core", "_compile"): _pattern,
    ("array", "array"): _array,
    ("django.utils.functional", "_lazy_proxy_unpickle"): _lazy_text,
    ("django.db.models.base", "model_unpickle"): _django_model,
    **{(module, "SimpleNamespace"): _namespace for module in ("types", "argparse")},
    ("argparse", "Namespace"): _namespace,
    **{("collections", name): _wrapper for name in ("UserDict", "UserList", "UserString")},
    ("UserDict", "IterableUserDict"): _wrapper,
    ("UserDict", "UserDict"): _wrapper,
    ("UserList", "UserList"): _wrapper,
    ("UserString", "UserString"): _wrapper,
    **{
        ("sqlalchemy.engine." + name, "rowproxy_reconstructor"): _row
        for name in ("_row_cy", "_py_row", "row", "result")
    },
    ("sqlalchemy.cyextension.resultproxy", "rowproxy_reconstructor"): _row,
    **{
        ("sqlalchemy." + name, "immutabledict"): _mapping
        for name in ("util._immutabledict_cy", "cyextension.immutabledict", "util._collections", "util._py_collections")
    },
}

NAMES: dict[tuple[str, str], str] = {
    ("pandas", "NA"): "<NA>",
    ("pandas._libs.missing", "NA"): "<NA>",
    ("builtins", "Ellipsis"): "Ellipsis",
    ("builtins", "NotImplemented"): "NotImplemented",
}
"""Single objects that are pickled by their name, with their text."""

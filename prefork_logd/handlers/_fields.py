"""Reads the declared public fields of objects: dataclasses, attrs, pydantic, msgspec, models of SQLAlchemy and Django.

Never takes `__dict__` as a whole, no field with `repr=False`, and nothing that may ask a database.
"""
from __future__ import absolute_import, division

from ._compat import text_of
from ._texts import has_base


class Fields(object):
    """Names of attributes, and the function that gets one: it may raise anything."""

    __slots__ = ("get", "names")

    def __init__(self, names, get):
        self.names = [name for name in names if not name.startswith("_")]
        self.get = get


class Items(object):
    """Pairs of keys and values of a mapping, which its code gives one by one, and how many there are."""

    __slots__ = ("count", "pairs")

    def __init__(self, pairs, count):
        self.pairs = pairs
        self.count = count


def _read_dataclass(value):
    return Fields(_shown_fields(type(value)), lambda name: getattr(value, name))


def _shown_fields(kind):
    """Return the names of a dataclass's fields, without ClassVar and InitVar, which are no fields of an object."""
    fields = kind.__dataclass_fields__.items()
    return [name for name, field in fields if field.repr and field._field_type.name == "_FIELD"]


def _read_attrs(value):
    """Fields of attrs; one with a function for repr has that one's text."""
    shows = dict((field.name, field.repr) for field in type(value).__attrs_attrs__ if field.repr)

    def get(name):
        found = getattr(value, name)
        return text_of(shows[name](found)) if callable(shows[name]) else found

    return Fields(list(shows), get)


def _read_pydantic(value):
    """Fields of pydantic 1 and 2, as they are stored: no computed ones."""
    fields = getattr(type(value), "__pydantic_fields__", None)
    if fields is None:
        fields = type(value).__fields__
    attributes = value.__dict__
    extra = getattr(value, "__pydantic_extra__", None) or {}

    def is_shown(name):
        field = fields[name]
        field = getattr(field, "field_info", field)
        return getattr(field, "repr", True) and not getattr(field, "exclude", None) and name in attributes

    names = [name for name in fields if is_shown(name)] + list(extra)
    return Fields(names, lambda name: attributes[name] if name in attributes else extra[name])


def _read_struct(value):
    return Fields(list(type(value).__struct_fields__), lambda name: getattr(value, name))


def _read_sqlalchemy_model(value):
    """Columns that are loaded; a deferred or expired one would be asked of the database.

    After a commit all are expired. The primary key is known without a question.
    """
    kind = type(value)
    mapper, attributes = kind.__mapper__, dict(value.__dict__)
    identity = getattr(attributes.get("_sa_instance_state"), "key", None)
    if identity is not None:
        keys = dict(zip(mapper.primary_key, identity[1]))
        for attribute in mapper.column_attrs:
            for column in attribute.columns:
                if column in keys:
                    attributes.setdefault(attribute.key, keys[column])
    hidden = [name for name, field in getattr(kind, "__dataclass_fields__", {}).items() if not field.repr]
    names = [column.key for column in mapper.column_attrs]
    return Fields([name for name in names if name in attributes and name not in hidden], attributes.__getitem__)


def _read_django_model(value):
    """Columns that are loaded; related objects by their keys alone."""
    attributes = value.__dict__
    names = [field.attname for field in type(value)._meta.concrete_fields]
    return Fields([name for name in names if name in attributes], attributes.__getitem__)


STRUCTURES = (
    (lambda kind: hasattr(kind, "__pydantic_fields__") and not hasattr(kind, "__dataclass_fields__"), _read_pydantic),
    (lambda kind: has_base(kind, "pydantic", "BaseModel"), _read_pydantic),
    (lambda kind: hasattr(kind, "__mapper__"), _read_sqlalchemy_model),
    (lambda kind: hasattr(kind, "_meta") and has_base(kind, "django", "Model"), _read_django_model),
    (lambda kind: hasattr(kind, "__dataclass_fields__"), _read_dataclass),
    (lambda kind: hasattr(kind, "__attrs_attrs__"), _read_attrs),
    (lambda kind: hasattr(kind, "__struct_fields__"), _read_struct),
)
"""Functions that know a class by what it declares, and the readers of its objects."""

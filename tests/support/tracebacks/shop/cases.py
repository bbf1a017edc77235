# coding: utf-8
"""Errors that every Python can raise: a function each, which gets a number that is another one in each call."""

import contextlib
import json

import vendored
from shop import helpers, in_package
from shop.helpers import Payment


def plain(number):
    raise ValueError("order %d is closed" % number)


def nested(number):
    return helpers.outer(number)


def attribute(number):
    return helpers.nothing().charge


def in_lambda(number):
    return (lambda one: one / 0)(number)


def in_generator(number):
    return list(helpers.numbers(number))


def in_list(number):
    return [helpers.fail(one) for one in [number]]


def in_dict(number):
    return {one: helpers.fail(one) for one in [number]}


def in_expression(number):
    return list(helpers.fail(one) for one in [number])


def recursion(number):
    return helpers.descend(20 + number % 40)


def mutual_recursion(number):
    return helpers.ping(2 * (20 + number % 20))


def own_type(number):
    raise helpers.PaymentError("card of user %d declined" % number)


def nested_type(number):
    raise Payment.Declined("declined")


def no_message(number):
    raise RuntimeError


def lines_in_message(number):
    raise ValueError("first %d\nsecond %d\n\n  third" % (number, number))


def traceback_in_message(number):
    raise ValueError(
        "remote failed:\n\nTraceback (most recent call last):\n"
        '  File "/srv/%d.py", line %d, in f%d\n    x()\nKeyError: %d\n' % (number, number, number, number)
    )


def frame_in_message(number):
    raise ValueError('  File "x%d.py", line %d, in y' % (number, number))


def link_in_message(number):
    raise ValueError("The above exception was the direct cause of the following exception:\nKeyError: %d" % number)


def letters(number):
    raise ValueError("Stra\xdfe \u65e5\u672c".encode("utf-8").decode("utf-8") if number < 0 else "Strasse")


def in_library(number):
    return json.loads("{%d" % number)


def called_by_library(number):
    return sorted([number, 2], key=helpers.fail)


def in_package_installed(number):
    return vendored.refuse(number)


def through_package(number):
    return vendored.call(helpers.fail, number)


def in_text(number):
    exec(compile("def f():\n    raise ValueError(%d)\nf()" % number, "<generated>", "exec"), {})


def no_module(number):
    return __import__("no_such_module_anywhere")


def no_syntax(number):
    return compile("a b c %d" % number, "given.py", "exec")


def method(number):
    return Payment().charge(number)


def static_method(number):
    return Payment.check(number)


def closure(number):
    def inner():
        raise ValueError(number)

    return inner()


def a_property(number):
    return Payment().amount


def decorated(number):
    return helpers.decorated(number)


@contextlib.contextmanager
def _entered():
    yield


def in_context(number):
    with _entered():
        return helpers.fail(number)


def package(number):
    return in_package()


def while_imported(number):
    import shop.broken

    return shop.broken


def asserted(number):
    assert number < 0, "negative %d" % number


def long_message(number):
    raise ValueError("%d " % number + "x" * 50000)


def deep(number):
    names = {}
    for at in range(50):
        text = "def step%d(go):\n    return go[%d](go) if %d < len(go) else fail()" % (at, at + 1, at + 1)
        exec(
            compile(text, __file__.replace("cases", "steps"), "exec"), {"fail": _fail, "__name__": "shop.steps"}, names
        )
    steps = [names["step%d" % at] for at in range(50)]
    return steps[0](steps)


def _fail():
    raise ValueError("at the end")


def formatting(number):
    return "%d %d" % (number,)


def decoding(number):
    return b"\xff".decode("ascii")


def key(number):
    return {}[number]


def unprintable(number):
    raise helpers.UnprintableError


ALL = [
    plain, nested, attribute, in_lambda, in_generator, in_list, in_dict, in_expression, recursion, mutual_recursion,
    own_type, nested_type, no_message, lines_in_message, traceback_in_message, frame_in_message, link_in_message,
    letters, called_by_library, in_package_installed, through_package, in_text, no_syntax, method,
    static_method, closure, a_property, decorated, in_context, package, while_imported, asserted, long_message, deep,
    formatting, decoding, key, unprintable,
]  # fmt: skip
SINCE_3 = [in_library, no_module]
"""Their types have had other names before Python 3.6."""

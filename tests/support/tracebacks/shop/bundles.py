"""Exception groups and notes, for Python 3.11 and newer."""

import asyncio

from shop import cases, helpers


def _error(function, number):
    try:
        function(number)
    except Exception as error:
        return error


def three_equal(number):
    raise ExceptionGroup("all failed", [_error(cases.plain, number) for _ in range(3)])


def two(number):
    found = [_error(cases.plain, number), _error(cases.nested, number)]
    raise ExceptionGroup("%d failed" % number, found if number % 2 else found[::-1])


def nested(number):
    inner = ExceptionGroup("inner", [_error(cases.plain, number), _error(cases.nested, number)])
    raise ExceptionGroup("outer", [inner, _error(cases.method, number)])


def as_cause(number):
    try:
        two(number)
    except ExceptionGroup as error:
        raise helpers.PaymentError("all of %d failed" % number) from error


def leaf_with_cause(number):
    from shop import chains

    raise ExceptionGroup("one failed", [_error(chains.cause, number)])


def noted(number):
    error = ValueError("order %d" % number)
    error.add_note("seen by worker %d" % number)
    error.add_note('Traceback (most recent call last):\n  File "x", line 1, in y\nKeyError: 1')
    raise error


async def _tasks(number):
    async def fail():
        helpers.fail(number)

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        group.create_task(fail())


def tasks(number):
    asyncio.run(_tasks(number))


ALL = [three_equal, two, nested, as_cause, leaf_with_cause, noted, tasks]

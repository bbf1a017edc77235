"""Functions that errors pass through."""

import functools


class PaymentError(Exception):
    pass


class UnprintableError(Exception):
    def __str__(self):
        raise TypeError


class Payment(object):
    class Declined(Exception):
        pass

    def charge(self, number):
        return fail(number)

    @staticmethod
    def check(number):
        return fail(number)

    @property
    def amount(self):
        return fail(1)


def fail(number):
    raise KeyError("user-%s" % number)


def outer(number):
    return middle(number)


def middle(number):
    return fail(number)


def nothing():
    return None


def numbers(number):
    yield number
    raise ValueError("after %d" % number)


def descend(depth):
    return descend(depth - 1) if depth else fail(depth)


def ping(depth):
    return pong(depth - 1) if depth else fail(depth)


def pong(depth):
    return ping(depth - 1) if depth else fail(depth)


def wrap(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


@wrap
def decorated(number):
    return fail(number)

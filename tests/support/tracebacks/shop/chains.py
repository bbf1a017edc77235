"""Errors with causes, for Python 3.6 and newer."""

import asyncio

from shop import helpers


def cause(number):
    try:
        helpers.fail(number)
    except KeyError as error:
        raise ValueError("no user %d" % number) from error


def context(number):
    try:
        helpers.fail(number)
    except KeyError:
        helpers.nothing().charge


def other_context(number):
    try:
        helpers.outer(number)
    except KeyError:
        helpers.nothing().charge


def no_context(number):
    try:
        helpers.fail(number)
    except KeyError:
        raise ValueError("no user %d" % number) from None


def three(number):
    try:
        cause(number)
    except ValueError as error:
        raise helpers.PaymentError("payment %d" % number) from error


def twenty(number, left=20):
    try:
        if left:
            twenty(number, left - 1)
        helpers.fail(number)
    except Exception as error:
        raise ValueError("level %d" % left) from error


async def _awaited(number):
    return helpers.fail(number)


def in_coroutine(number):
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_awaited(number))
    finally:
        loop.close()


def endless(number):
    return endless(number)


ALL = [cause, context, other_context, no_context, three, twenty, in_coroutine, endless]

"""Calls each function that fails, and keeps what it raised."""

import sys


def run(functions, number):
    """Return (name, exc_info) of each function."""
    raised = []
    for function in functions:
        try:
            function(number)
        except Exception:
            raised.append(("%s.%s" % (function.__module__, function.__name__), sys.exc_info()))
        else:
            raise SystemExit("%s raised nothing" % function.__name__)
    return raised

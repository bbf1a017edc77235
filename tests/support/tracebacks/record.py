"""Prints each error of this Python as a line of JSON: its name, its traceback's text, and our handler's data of it.

Runs under every Python with no package but the handler's: `record.py HANDLERS RELEASE NUMBER`, where RELEASE is the
directory of the application. Does not know fingerprints.
"""

from __future__ import print_function

import json
import logging
import sys


def main():
    """Raise every error and print it."""
    handlers, release, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sys.path[:0] = [release, release + "/lib/python3/site-packages"]
    sys.path.append(handlers)
    sys.dont_write_bytecode = True
    from handlers._exceptions import describe_exceptions
    from shop import cases, runner

    functions = list(cases.ALL)
    if sys.version_info >= (3, 6):
        from shop import chains

        functions += cases.SINCE_3 + chains.ALL
    if sys.version_info >= (3, 11):
        from shop import bundles

        functions += bundles.ALL
    import vendored

    raised = [("vendored.refuse", vendored.caught())]
    try:
        cases.plain(number)
    except ValueError:
        raised.append(("__main__.main", sys.exc_info()))
    formatter = logging.Formatter()
    for name, (kind, error, trace) in raised + runner.run(functions, number):
        text = formatter.formatException((kind, error, trace))
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        print(json.dumps({"name": name, "exc_text": text, "exception": describe_exceptions(error, trace)}))


main()

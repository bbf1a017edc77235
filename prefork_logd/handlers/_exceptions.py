"""Describes exceptions as data: their types and the frames of their tracebacks, for those who group errors.

Knows nothing of records and of the network. docs/record.md describes the result.
"""
from __future__ import absolute_import, division

import os

from ._compat import TEXT

_MOST_EXCEPTIONS = 16
"""Of a chain and its groups, together."""
_MOST_LINKS = 64
"""How far a chain is followed to find its root."""
_FIRST_FRAMES, _LAST_FRAMES = 8, 24
"""Frames of one traceback that are kept: the outermost and the innermost ones."""
_MOST_NAME_CHARS = 200
_MOST_FILES = 4096
_PACKAGES = (os.sep + "site-packages" + os.sep, os.sep + "dist-packages" + os.sep)
_LIBRARY = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_MOST_PLACES = 4096
_SCRIPTS = ("__main__", "__mp_main__")
"""Names of the module of a script: in its process, and in processes that multiprocessing has spawned."""
_in_app_files = {}  # name of a source file: whether it is the application's
_places = {}  # id of a code object and a line: the code, its module's name, and the frame's description
_error_classes = {}  # class of exceptions: its name, its module, and whether it is one of groups


def describe_exceptions(error, trace=None):
    """Return the chain of an exception as a list of dicts, its root first, the exception itself last. Raises nothing.

    `trace` is the traceback of the exception where it does not have it itself (Python 2). The leaves of an exception
    group come before the group, marked with `in_group`.
    """
    found = []
    try:
        for one in reversed(_chain(error)):
            leaves = _leaves(one) if _is_group(one) else ()
            for leaf in leaves:
                described = dict(_described(leaf), in_group=True)
                if described not in found:
                    found.append(described)
            found.append(_described(one, trace if one is error else None))
    except Exception:  # noqa: BLE001 - an exception's class may do anything when it is looked at
        pass
    return found[-_MOST_EXCEPTIONS:]


def _chain(error):
    """Return an exception and those that led to it, itself first; no exception twice."""
    chain, seen = [], set()
    while error is not None and id(error) not in seen and len(chain) < _MOST_LINKS:
        seen.add(id(error))
        chain.append(error)
        cause = getattr(error, "__cause__", None)
        if cause is None and not getattr(error, "__suppress_context__", False):
            cause = getattr(error, "__context__", None)
        error = cause
    return chain if len(chain) <= _MOST_EXCEPTIONS else chain[: _MOST_EXCEPTIONS - 1] + chain[-1:]


def _about(kind):
    """Return what is known of a class of exceptions: its name, its module, and whether it is one of groups.

    Groups are those of Python 3.11 or of the package exceptiongroup.
    """
    known = _error_classes.get(kind)
    if known is None:
        if len(_error_classes) >= _MOST_PLACES:
            _error_classes.clear()
        name, module = _short(getattr(kind, "__qualname__", kind.__name__)), _short(kind.__module__)
        is_group = any(one.__name__ == "BaseExceptionGroup" for one in kind.__mro__)
        known = _error_classes[kind] = name, module, is_group
    return known


def _is_group(error):
    """Return whether it is an exception group."""
    return _about(type(error))[2]


def _leaves(group):
    """Return the exceptions in a group and in groups within it, _MOST_EXCEPTIONS at most."""
    leaves, waiting = [], list(group.exceptions[:_MOST_EXCEPTIONS])
    groups = 1
    while waiting and len(leaves) < _MOST_EXCEPTIONS:
        one = waiting.pop(0)
        if not _is_group(one):
            leaves.append(one)
        elif groups < _MOST_EXCEPTIONS:
            groups += 1
            waiting = list(one.exceptions[:_MOST_EXCEPTIONS]) + waiting
    return leaves


def _described(error, trace=None):
    name, module, _ = _about(type(error))
    frames, left_out = _frames(getattr(error, "__traceback__", trace))
    found = {"type": name, "module": module, "frames": frames}
    if left_out:
        found["frames_left_out"] = left_out
    return found


def _frames(trace):
    """Return the frames of a traceback, the outermost first, and how many are left out between the kept ones."""
    first, last, count = [], [], 0
    while trace is not None:
        if count < _FIRST_FRAMES:
            first.append(trace)
        else:
            last.append(trace)
            if len(last) > 2 * _LAST_FRAMES:
                del last[:_LAST_FRAMES]
        count += 1
        trace = trace.tb_next
    kept = first + last[-_LAST_FRAMES:]
    return [_frame(one) for one in kept], count - len(kept)


def _frame(trace):
    """Return a frame as a dict, which others share: it is never changed."""
    frame = trace.tb_frame
    code, lineno = frame.f_code, trace.tb_lineno
    module = frame.f_globals.get("__name__")
    # By the code's id, for to hash a code object takes longer than all of this. It is kept, so the id is its own.
    place = id(code), lineno
    known = _places.get(place)
    if known is None or known[0] is not code or known[1] is not module:
        if len(_places) >= _MOST_PLACES:
            _places.clear()
        function, in_app = _short(getattr(code, "co_qualname", code.co_name)), _is_in_app(code.co_filename)
        is_script = isinstance(module, (str, TEXT)) and module in _SCRIPTS
        name = _script_name(code.co_filename) if is_script else module
        described = {"module": _short(name), "function": function, "lineno": lineno, "in_app": in_app}
        known = _places[place] = code, module, described
    return known[2]


def _script_name(filename):
    """Return the name of the module in the file that a process was started with, as the text of a traceback has it.

    A cell of a notebook has a file with a number, which is another one each time.
    """
    name = os.path.basename(filename)
    stem, extension = os.path.splitext(name)
    if extension in (".py", ".pyw", ".pyc"):
        name = stem
    return name if name and not name.isdigit() else "__main__"


def _is_in_app(filename):
    """Return whether a source file is the application's, and not of Python's or an installed package's."""
    known = _in_app_files.get(filename)
    if known is None:
        if len(_in_app_files) >= _MOST_FILES:
            _in_app_files.clear()
        is_library = filename.startswith((_LIBRARY, "<")) or any(part in filename for part in _PACKAGES)
        known = _in_app_files[filename] = not is_library
    return known


def _short(name):
    return name[:_MOST_NAME_CHARS] if isinstance(name, (str, TEXT)) else None

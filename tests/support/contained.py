"""Runs a function in a child process with limits, and measures it."""

import gc
import json
import os
import resource
import sys
import time
import traceback

HARMLESS_EVENTS = frozenset({"builtins.id"})


def contained(function, *args):
    """Return the cost and the result of `function(*args)` in a forked child.

    A dict with `result` (must be JSON), `cpu_s`, `growth_mib` and `events`: the audit events (PEP 578) raised
    meanwhile, by an import, a system call, an opened file or the look-up of a pickled name.
    """
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(read_end)
            os.write(write_end, json.dumps(_measured(function, args)).encode())
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, only this child may see it
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"
    return json.loads(answer)


def _measured(function, args):
    gc.freeze()  # The function must not pay for a collection of the objects of the tests.
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (10, 11))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    events = []
    watching = False

    def watch(event, _):
        if watching and event not in HARMLESS_EVENTS:
            events.append(event)

    sys.addaudithook(watch)
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    watching = True
    result = function(*args)
    watching = False
    cpu_s = time.process_time() - started
    growth = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss
    return {"result": result, "cpu_s": cpu_s, "growth_mib": growth / 1024, "events": sorted(set(events))}

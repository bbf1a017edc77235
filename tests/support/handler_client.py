"""Runs a service with our handler on a real interpreter: `handler_client.py SCENARIO host port JSON-of-arguments`.

Runs on Python 2.7 to 3.13, imports nothing of the collector, and prints its results as one JSON document.
"""

from __future__ import division, print_function

import atexit
import itertools
import json
import logging
import logging.config
import os
import signal
import sys
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

if "HANDLER_MODULE" in os.environ:  # a path without .py: the same code under another name
    sys.path.insert(0, os.path.dirname(os.environ["HANDLER_MODULE"]))
    SocketHandler = __import__(os.path.basename(os.environ["HANDLER_MODULE"])).SocketHandler
else:
    from prefork_logd.handlers import SocketHandler

LOG = logging.getLogger("shop")
LOG.setLevel(logging.DEBUG)
LOG.propagate = False
SCENARIOS = {}


def scenario(function):
    SCENARIOS[function.__name__] = function
    return function


def say(**found):
    print(json.dumps(found, sort_keys=True))
    sys.stdout.flush()


def attach(host, port, **arguments):
    handler = SocketHandler(host, port, **arguments)
    LOG.addHandler(handler)
    return handler


def until(condition, seconds=20.0):
    deadline = time.time() + seconds
    while not condition():
        if time.time() > deadline:
            raise SystemExit("waited in vain")
        time.sleep(0.002)


@scenario
def some(host, port, count=100, wait=10, **arguments):
    """Emit, flush, and end as services do."""
    handler = attach(host, port, **arguments)
    for number in range(count):
        LOG.info("record %d", number)
    say(flushed=handler.flush(wait), counters=handler.counters(), own_modules=own_modules())


@scenario
def raises(host, port, **arguments):
    """Log an exception in the place of another one."""
    handler = attach(host, port, **arguments)
    try:
        try:
            json.loads("{")
        except ValueError:
            raise KeyError("no settings")
    except KeyError:
        LOG.exception("order %s failed", 17)
    LOG.info("no arguments: 100%")
    say(flushed=handler.flush(10))


def own_modules():
    return sorted(name for name, module in sys.modules.items() if module and name.startswith("prefork_logd"))


@scenario
def ends(host, port, count=100, how="return", **arguments):
    """Emit and end, without a flush."""
    attach(host, port, **arguments)
    for number in range(count):
        LOG.info("record %d", number)
    if how == "_exit":
        os._exit(0)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "raise":
        raise SystemExit(3)


@scenario
def values(host, port, **arguments):
    """Emit records that cannot be pickled, formatted or sent."""

    class Odd(object):
        def __reduce__(self):
            raise TypeError("never")

        def __str__(self):
            return "odd one"

    class Worse(object):
        def __reduce__(self):
            raise TypeError("never")

        def __str__(self):
            raise ValueError("neither")

        __repr__ = __str__

    handler = attach(host, port, **arguments)
    LOG.info("odd", extra={"odd": Odd(), "fine": 5, "lock": threading.Lock(), "call": lambda: None})
    LOG.info("worse", extra={"worse": Worse()})
    LOG.info("%d apples", "no")
    LOG.info("argument %s", Odd())
    LOG.info("argument %s", Worse())
    LOG.info(Odd())
    LOG.info("large", extra={"text": "x" * 3000000, "number": 7})
    LOG.info(u"snow \u2603 %s", u"\u2603")
    LOG.info("data", extra={"data": {"a": [1, 2, {"b": None}]}})
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise RuntimeError("second")
    except RuntimeError:
        LOG.exception("failed")
    try:
        raise Worse_error()
    except Exception:
        LOG.exception("told nothing")
    record = logging.LogRecord("shop", logging.INFO, __file__, 1, "queued", None, None)
    record.exc_text = "kept text"
    record.stack_info = "kept stack"
    LOG.handle(record)
    LOG.info({"event": "paid", "user": 17})
    unhashable = type("Meta", (type,), {"__eq__": lambda self, other: self is other, "__hash__": None})
    private = unhashable("Private", (object,), {"__str__": lambda self: "private"})()
    private.token = "t0ken"
    LOG.info("private", extra={"private": private, "items": [private], "fine": 5, "extra": Liar()})
    LOG.info("names", extra={Liar(): 5})
    say(flushed=handler.flush(10), counters=handler.counters())


class Liar(object):
    """Says that it is a dict, and has private state."""

    __class__ = property(lambda self: dict)

    def __init__(self):
        self.token = "t0ken"

    def __str__(self):
        return "liar"


class Worse_error(Exception):
    def __str__(self):
        raise ValueError("no text")


@scenario
def stream(host, port, seconds=3.0, threads=2, pause=0.0005, **arguments):
    """Emit from threads for a while, then wait for every acknowledgement."""
    handler = attach(host, port, **arguments)
    end = time.time() + seconds
    counts = [0] * threads

    def run(index):
        while time.time() < end:
            LOG.info("thread %d record %d", index, counts[index])
            counts[index] += 1
            time.sleep(pause)

    workers = [threading.Thread(target=run, args=(index,)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    until(lambda: handler.flush(5), 30)
    say(counts=counts, counters=handler.counters())


@scenario
def until_told(host, port, burst=200, **arguments):
    """Emit a burst, print a line, and continue with each line of input; flush at its end."""
    handler = attach(host, port, **arguments)
    number = 0
    while True:
        for _ in range(burst):
            LOG.info("record %d", number)
            number += 1
        say(emitted=number, counters=handler.counters())
        if not sys.stdin.readline().strip():
            break
    flushed = handler.flush(10)
    say(emitted=number, flushed=flushed, counters=handler.counters())


@scenario
def forks(host, port, children=10, each=5, end="_exit", **arguments):
    """Fork while other threads are in the middle of emit."""
    handler = attach(host, port, **arguments)
    stop = threading.Event()
    counts = [0, 0]

    def run(index):
        while not stop.is_set():
            LOG.info("parent %d record %d", index, counts[index])
            counts[index] += 1

    workers = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for worker in workers:
        worker.start()
    pids = []
    for child in range(children):
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            for number in range(each):
                LOG.info("child %d record %d", child, number)
            done = handler.flush(10)
            os._exit(0 if done else 1)
        pids.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    stop.set()
    for worker in workers:
        worker.join()
    say(statuses=statuses, counts=counts, flushed=handler.flush(10), counters=handler.counters())


@scenario
def forks_within(host, port, **arguments):
    """Fork within emit: the str() of a value forks."""
    handler = attach(host, port, **arguments)
    children = []

    class Forking(object):
        def __str__(self):
            children.append(os.fork())
            return "forked"

    for _ in range(3):
        LOG.info("before")
        LOG.info("%s", Forking())
        if not children[-1]:
            signal.alarm(20)
            LOG.info("child")
            os._exit(0 if handler.flush(10) else 1)
    say(statuses=[os.waitpid(pid, 0)[1] for pid in children], flushed=handler.flush(10), counters=handler.counters())


@scenario
def forks_in_c(host, port, **arguments):
    """Fork as a C library does, without the hooks of Python, while our lock and that of `logging` are held.

    Python itself does not survive such a fork in two states of other threads: one has asked for the interpreter's lock
    (drop_gil in ceval_gil.h waits for it), or waits for that lock (its condition variable counts it, and
    pthread_cond_signal of glibc waits in the child until it has left). So the helper has to stand at our lock.
    """
    import ctypes

    fork = ctypes.PyDLL(None).fork  # PyDLL holds the interpreter's lock, which the child needs.
    set_interval = getattr(sys, "setswitchinterval", lambda _: None)
    set_interval(1000.0)  # no thread asks for the lock, or gives it back before it has to wait
    handler = attach(host, port, **arguments)
    for number in range(100):
        LOG.info("parent record %d", number)
    is_held, is_over = threading.Event(), threading.Event()

    def hold_the_lock_of_logging():
        with logging._lock:
            is_held.set()
            is_over.wait()

    holder = threading.Thread(target=hold_the_lock_of_logging)
    holder.start()
    is_held.wait()

    def fork_while_the_helper_waits():
        until(helper_waits_for_lock)
        return fork()

    def helper_waits_for_lock():
        helper = handler._client.helper.thread
        frame = helper and sys._current_frames().get(helper.ident)
        return frame and frame.f_code.co_filename.endswith("_section.py") and frame.f_code.co_name == "run"

    pid = handler._client.section.run(fork_while_the_helper_waits)
    set_interval(0.005)
    who = "parent" if pid else "child"
    if not pid:
        signal.alarm(20)
    for number in range(100, 200):
        LOG.info("%s record %d", who, number)
    done = handler.flush(10)
    if not pid:
        os._exit(0 if done else 1)
    is_over.set()
    holder.join()
    say(status=os.waitpid(pid, 0)[1], flushed=done, counters=handler.counters())


@scenario
def forks_like_uwsgi(host, port, children=6, each=5, **arguments):
    """Fork in C while other threads emit, and call what Python wants to be called then, as uWSGI does."""
    import ctypes

    fork, api = ctypes.PyDLL(None).fork, ctypes.pythonapi
    if hasattr(api, "PyOS_BeforeFork"):
        before, in_parent, in_child = api.PyOS_BeforeFork, api.PyOS_AfterFork_Parent, api.PyOS_AfterFork_Child
    else:  # 3.6 and older
        before, in_parent, in_child = (lambda: None), (lambda: None), api.PyOS_AfterFork
    set_interval = getattr(sys, "setswitchinterval", lambda _: None)
    set_interval(1000.0)  # as in C: no other thread comes in between the calls
    handler = attach(host, port, **arguments)
    stop = threading.Event()
    counts = [0, 0]

    def run(index):
        while not stop.is_set():
            LOG.info("parent %d record %d", index, counts[index])
            counts[index] += 1

    workers = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for worker in workers:
        worker.start()
    pids = []
    for child in range(children):
        before_fork = sum(counts)
        until(lambda before_fork=before_fork: sum(counts) > before_fork + 50)
        before()
        pid = fork()
        if pid:
            in_parent()
        else:
            in_child()
            set_interval(0.005)
            signal.alarm(20)
            for number in range(each):
                LOG.info("child %d record %d", child, number)
            done = handler.flush(10)
            os._exit(0 if done else 1)
        pids.append(pid)
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    stop.set()
    for worker in workers:
        worker.join()
    say(statuses=statuses, counts=counts, flushed=handler.flush(10), counters=handler.counters())


@scenario
def forks_while_adopting(host, port, **arguments):
    """Fork while another process's spool is being sent; the child lives on, and the parent logs nothing."""
    handler = attach(host, port, **arguments)
    say(ready=True)
    sys.stdin.readline()
    pid = os.fork()
    if not pid:
        time.sleep(30)
        os._exit(0)
    say(child=pid)
    sys.stdin.readline()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    handler.close()
    say(counters=handler.counters())


@scenario
def leaves_a_child(host, port, count=300, **arguments):
    """Emit, and fork a child that still lives when this process is killed."""
    attach(host, port, **arguments)
    for number in range(count):
        LOG.info("record %d", number)
    pid = os.fork()
    if not pid:
        for descriptor in range(3):
            os.close(descriptor)
        time.sleep(30)
        os._exit(0)
    say(child=pid)
    time.sleep(30)


@scenario
def processes(host, port, children=4, **arguments):
    """Log in children of multiprocessing, which end without atexit."""
    import multiprocessing

    attach(host, port, **arguments)
    LOG.info("parent")
    context = multiprocessing.get_context("fork") if hasattr(multiprocessing, "get_context") else multiprocessing
    workers = [context.Process(target=work, args=(index,)) for index in range(children)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    say(statuses=[worker.exitcode for worker in workers])


def work(index):
    LOG.info("process %d", index)


@scenario
def processes_of_their_own(host, port, **arguments):
    """Log in children of multiprocessing that make their handlers themselves."""
    import multiprocessing

    context = multiprocessing.get_context("fork") if hasattr(multiprocessing, "get_context") else multiprocessing
    worker = context.Process(target=attach_and_work, args=(host, port), kwargs=arguments)
    worker.start()
    worker.join()
    say(status=worker.exitcode)


def attach_and_work(host, port, **arguments):
    attach(host, port, **arguments)
    work(0)
    say(emitted=True)


@scenario
def signals(host, port, count=3000, **arguments):
    """Log from a signal handler that interrupts emit as often as possible."""
    handler = attach(host, port, **arguments)
    counts = {"interrupted": 0, "within": 0}
    signalled = itertools.count()

    def interrupt(number, frame):
        while frame is not None:
            if os.path.dirname(frame.f_code.co_filename).endswith("handlers"):
                counts["within"] += 1
                break
            frame = frame.f_back
        # Counted in one step: another signal may interrupt this function.
        number_of_signal = next(signalled)
        LOG.info("signal %d", number_of_signal)
        counts["interrupted"] = max(counts["interrupted"], number_of_signal + 1)

    signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    number = 0
    deadline = time.time() + 10
    while number < count or (counts["within"] < 20 and time.time() < deadline):
        LOG.info("record %d", number)
        number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    say(number=number, counts=counts, flushed=handler.flush(10), counters=handler.counters())


@scenario
def interrupts(host, port, count=2000, **arguments):
    """Raise from a signal handler at any point, and continue."""
    handler = attach(host, port, **arguments)

    class Interrupt(BaseException):
        pass

    def interrupt(number, frame):
        raise Interrupt

    signal.signal(signal.SIGALRM, interrupt)
    returned = []
    raised = 0
    number = 0
    while number < count:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0007)
            for _ in range(200):
                LOG.info("record %d", number)
                returned.append(number)
                number += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            raised += 1
            number += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    say(returned=returned, raised=raised, flushed=handler.flush(10), counters=handler.counters())


@scenario
def timed(host, port, seconds=2.0, pause=0.001, **arguments):
    """Emit at a steady pace, and measure the time."""
    handler = attach(host, port, **arguments)
    spent = []
    begin = time.time()
    while time.time() - begin < seconds:
        started = time.time()
        LOG.info("record %d", len(spent))
        spent.append(time.time() - started)
        time.sleep(pause)
    elapsed = time.time() - begin
    started = time.time()
    handler.close()
    say(
        emits=len(spent), longest=max(spent), total=sum(spent), elapsed=elapsed, close=time.time() - started,
        counters=handler.counters(),
    )


@scenario
def configured(host, port, **arguments):
    """Configure the handler by dictConfig and by fileConfig."""
    target = {"class": "prefork_logd.handlers.SocketHandler", "host": host, "port": port, "overflow": "drop_old"}
    target.update(arguments)
    settings = {"version": 1, "handlers": {"logd": target}, "root": {"level": "INFO", "handlers": ["logd"]}}
    logging.config.dictConfig(settings)
    logging.getLogger("by.dict").info("by dict")
    name = logging.getLogger().handlers[0].name
    path = os.path.join(os.environ["SCRATCH"], "logging.ini")
    with open(path, "w") as target:
        target.write(
            "[loggers]\nkeys=root\n[handlers]\nkeys=logd\n[formatters]\nkeys=\n[logger_root]\nlevel=INFO\nhandlers=logd\n"
            "[handler_logd]\nclass=prefork_logd.handlers.SocketHandler\nargs=(%r, %r)\n" % (str(host), port)
        )
    logging.config.fileConfig(path, disable_existing_loggers=False)
    logging.getLogger("by.file").info("by file")
    handler = logging.getLogger().handlers[0]
    say(name=name, flushed=handler.flush(10), kind=type(handler).__module__)


@scenario
def reconfigured(host, port, **arguments):
    """Configure logging twice, with records before, between and after."""
    target = {"class": "prefork_logd.handlers.SocketHandler", "host": host, "port": port}
    target.update(arguments)
    settings = {"version": 1, "handlers": {"logd": target}, "root": {"level": "INFO", "handlers": ["logd"]}}
    took = []
    for number in range(3):
        started = time.time()
        logging.config.dictConfig(settings)
        took.append(time.time() - started)
        logging.getLogger().info("record %d", number)
    say(took=took, counters=logging.getLogger().handlers[0].counters())
    sys.stdin.readline()
    say(flushed=logging.getLogger().handlers[0].flush(10))


@scenario
def reconfigured_away(host, port, **arguments):
    """Configure logging again without this handler, and end."""
    target = {"class": "prefork_logd.handlers.SocketHandler", "host": host, "port": port}
    target.update(arguments)
    settings = {"version": 1, "handlers": {"logd": target}, "root": {"level": "INFO", "handlers": ["logd"]}}
    logging.config.dictConfig(settings)
    logging.getLogger().info("record 0")
    logging.config.dictConfig({"version": 1, "handlers": {}, "root": {"handlers": []}})
    say(ready=True)
    sys.stdin.readline()


class Late(object):
    """Logs when the interpreter takes it away at its end."""

    def __init__(self, handler):
        self.log, self.handler = LOG, handler

    def __del__(self):
        self.log.info("record 1")
        self.log.info("record 2")


@scenario
def late(host, port, **arguments):
    """Log after the end of logging."""
    global KEPT  # noqa: PLW0603
    KEPT = Late(attach(host, port, **arguments))
    LOG.info("record 0")
    KEPT.handler.flush(0.1)


@scenario
def forks_quietly(host, port, **arguments):
    """Fork with records that are not acknowledged; then log nothing more."""
    import warnings

    warnings.simplefilter("always")
    handler = attach(host, port, **arguments)
    told = []
    for number in range(8):
        LOG.info("record %d", number)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pid = os.fork()
            if not pid:
                os._exit(0)
            told += [str(warning.message) for warning in caught]
        os.waitpid(pid, 0)
    until(lambda: handler._client.helper.thread is not None or handler.counters()["held"] == 0)
    say(told=told, flushed=handler.flush(10), profile=sys.getprofile() is not None)


@scenario
def loop_with_threads(host, port, seconds=1.0, **arguments):
    """Fill the queue from threads and from an event loop; measure the loop's longest emit."""
    import asyncio

    handler = attach(host, port, **arguments)
    stop = threading.Event()

    def fill():
        while not stop.is_set():
            LOG.info("x" * 1000)

    async_spent = []
    loop = asyncio.new_event_loop()
    end = time.time() + seconds

    def log():
        started = time.time()
        LOG.info("y" * 1000)
        async_spent.append(time.time() - started)
        if time.time() < end:
            loop.call_later(0.002, log)
        else:
            loop.stop()

    until(lambda: LOG.info("x" * 1000) or handler.counters()["held_bytes"] > arguments["limit_bytes"] - 3000)
    worker = threading.Thread(target=fill)
    worker.start()
    loop.call_soon(log)
    loop.run_forever()
    loop.close()
    stop.set()
    worker.join()
    say(longest=max(async_spent), counters=handler.counters())


@scenario
def subclass(host, port, **arguments):
    """Override the methods that the standard library's handler allows to override."""
    import socket

    class Own(SocketHandler):
        made = 0

        def makeSocket(self, timeout=1):
            self.made += 1
            return socket.create_connection((self.host, self.port), timeout)

        def makePickle(self, record):
            record.__dict__["added"] = "here"
            return SocketHandler.makePickle(self, record)

    handler = Own(host, port, **arguments)
    LOG.addHandler(handler)
    for number in range(20):
        LOG.info("record %d", number)
    say(flushed=handler.flush(10), made=handler.made, counters=handler.counters())


@scenario
def queued(host, port, **arguments):
    """Use the handler behind a QueueHandler."""
    import queue
    from logging.handlers import QueueHandler, QueueListener

    handler = SocketHandler(host, port, **arguments)
    channel = queue.Queue()
    listener = QueueListener(channel, handler)
    LOG.addHandler(QueueHandler(channel))
    listener.start()
    try:
        1 / 0
    except ZeroDivisionError:
        LOG.exception("failed", stack_info=True)
    listener.stop()
    say(flushed=handler.flush(10))


@scenario
def greenlets(host, port, count=50, **arguments):
    """Log from greenlets, with all of gevent's patches."""
    import gevent.monkey

    gevent.monkey.patch_all()
    import gevent

    handler = attach(host, port, **arguments)

    def run(index):
        for number in range(count):
            LOG.info("greenlet %d record %d", index, number)
            gevent.sleep(0)

    gevent.joinall([gevent.spawn(run, index) for index in range(20)])
    say(flushed=handler.flush(10), counters=handler.counters())


@scenario
def green_and_native(host, port, **arguments):
    """Log from green threads and from threads of tpool, with all of eventlet's patches."""
    import eventlet

    eventlet.monkey_patch()
    import eventlet.tpool

    handler = attach(host, port, **arguments)

    def native(index):
        for number in range(50):
            LOG.info("native %d record %d", index, number)

    def green(index):
        for number in range(50):
            LOG.info("green %d record %d", index, number)
            eventlet.sleep(0)

    pool = eventlet.GreenPool(20)
    for index in range(10):
        pool.spawn_n(eventlet.tpool.execute, native, index)
        pool.spawn_n(green, index)
    pool.waitall()
    say(flushed=handler.flush(10), counters=handler.counters())


@scenario
def subinterpreters(host, port, count=50, **arguments):
    """Log in an interpreter with its own lock, which allows no daemon threads, and in one that shares everything."""
    import _interpreters

    program = """
import logging, sys
sys.path.insert(0, %r)
from prefork_logd.handlers import SocketHandler
logging.basicConfig(level="INFO", handlers=[SocketHandler(%r, %d, name=%r)])
for number in range(%d):
    logging.info("%s record %%d", number)
"""
    for kind in ("isolated", "legacy"):
        interpreter = _interpreters.create(kind)
        failure = getattr(_interpreters, "exec")(  # noqa: B009 - a keyword of Python 2
            interpreter, program % (sys.path[0], host, port, kind, count, kind))
        _interpreters.destroy(interpreter)
        if failure is not None:
            raise SystemExit(failure.formatted)


@scenario
def memory(host, port, target="at once", **arguments):
    """Hold records in a MemoryHandler until the end, with a target that is older or newer than it."""
    from logging.handlers import MemoryHandler

    handler = MemoryHandler(1000, target=SocketHandler(host, port, **arguments) if target == "at once" else None)
    if target == "later":  # then logging.shutdown closes the target first
        handler.setTarget(SocketHandler(host, port, **arguments))
    LOG.addHandler(handler)
    for number in range(50):
        LOG.info("record %d", number)


@scenario
def odd_ends(host, port, **arguments):
    """Log in an adapter, by warnings, between two shutdowns, and in a function of atexit."""
    import warnings

    handler = SocketHandler(host, port, **arguments)
    logging.raiseExceptions = False
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    warnings.simplefilter("always")
    warnings.warn("record 0", stacklevel=1)
    LOG.propagate = True
    logging.LoggerAdapter(LOG, {"request": 7}).info("record %d", 1)
    logging.shutdown()
    LOG.info("record %d", 2)
    logging.shutdown()
    LOG.info("record %d", 3)
    atexit.register(LOG.info, "record %d", 4)


@scenario
def looped(host, port, count=200, **arguments):
    """Log from asyncio's event loop, and measure its longest delay."""
    import asyncio

    handler = attach(host, port, **arguments)
    longest = [0.0]

    def log(number):
        started = time.time()
        LOG.info("record %d", number)
        longest[0] = max(longest[0], time.time() - started)
        if number + 1 < count:
            loop.call_later(0.001, log, number + 1)
        else:
            loop.stop()

    loop = asyncio.new_event_loop()
    loop.call_soon(log, 0)
    loop.run_forever()
    loop.close()
    say(longest=longest[0], flushed=handler.flush(0.1))


@scenario
def idle(host, port, **arguments):
    """Check that a thread exists only while records are held."""
    handler = attach(host, port, **arguments)
    before = threading.active_count()
    LOG.info("one")
    during = threading.active_count()
    handler.flush(10)
    until(lambda: threading.active_count() == before)
    LOG.info("two")
    again = threading.active_count()
    say(before=before, during=during, again=again, flushed=handler.flush(10))


if __name__ == "__main__":
    given = json.loads(sys.argv[4]) if len(sys.argv) > 4 else {}
    SCENARIOS[sys.argv[1]](sys.argv[2], int(sys.argv[3]) if sys.argv[3] else None, **dict((str(k), v) for k, v in given.items()))

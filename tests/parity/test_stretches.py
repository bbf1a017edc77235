"""What was copied of an earlier record is what would have been read, and nothing is that differs in one octet."""

import logging
import logging.handlers
import pickle
import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.handlers._pickles import make_pickle
from prefork_logd.ingest import core as native
from tests.parity import sides
from tests.support.strategies import bounded

HANDLER = logging.handlers.SocketHandler("localhost", 0)
KINDS = ({}, {"paid": True, "n": 1.5}, {"request": {"method": "GET", "parts": [1, "a"]}})
"""Further attributes of records."""


def made(site=0, message="said", thread=140_289_344_486_016, *, is_ours=False, **extra):
    """Return the body of the frame that a service sends for a record of one of its lines of code.

    `is_ours`: as our handler pickles it: by protocol 4, without a memo.
    """
    record = logging.LogRecord(
        f"shop.part{site % 3}",
        (site % 5 + 1) * 10,
        f"/srv/shop/part{site % 7}.py",
        40 + 30 * site,
        message,
        None,
        None,
        f"do_{site}",
    )
    record.created = 1_795_404_000.0 + site / 8
    record.thread = thread
    record.__dict__.update(extra)
    return make_pickle(record, is_short=True) if is_ours else HANDLER.makePickle(record)[4:]


@pytest.fixture
def cores():
    """Return compiled cores that have learnt nothing yet: one that needs every field, and others for JSON alone."""
    one = sides.core()
    native.speedups.unlearn()
    return one, sides.core([OutputSettings(path="a")]), sides.core([OutputSettings(path="a", level="WARNING")])


def agree(cores, frame):
    """Check that every core writes what Python writes; return whether they wrote it."""
    written = [one.lines(frame, sides.PEER, sides.RECEIVED) for one in cores]
    if written == [None] * len(cores):
        return False
    wanted = sides.by_python(frame)
    assert written[0] in (None, wanted), frame
    for lines, place in zip(written[1:], (0, 5), strict=True):
        assert lines is not None or written[0] is None
        assert lines is None or lines[0] == wanted[place]
    return written[0] is not None


def warm(cores, frame):
    """Let a frame come until it is known; return how many stretches were copied the last time.

    A place in the code whose records had to be read twice is read key by key for a while.
    """
    for _ in range(30):
        before = native.speedups.stretches()
        assert agree(cores, frame)
    return (native.speedups.stretches() - before) / len(cores)


@pytest.mark.parametrize("is_ours", [False, True])
def test_a_record_that_comes_again_is_copied(cores, is_ours):
    """Its place in the code and its thread, whatever message and extras say."""
    assert warm(cores, made(1, is_ours=is_ours)) == 2
    before = native.speedups.stretches()
    for number in range(50):
        extras = {"request": number, "kind": "a\tb", "paid": bool(number % 2)}
        assert agree(cores, made(1, f"{number} \u00fc \"'\\\n", is_ours=is_ours, **extras))
    assert native.speedups.stretches() - before == 50 * 2 * len(cores)


def test_a_few_places_and_threads_are_remembered():
    """150 places in the code and 50 threads, each of which has come a few times, are all copied from then on."""
    native.speedups.unlearn()
    one = sides.core([OutputSettings(path="a")])
    frames = [made(site, thread=140_289_344_486_016 + site % 50 * 4096) for site in range(150)]
    for _ in range(4):
        before = native.speedups.stretches()
        for frame in frames:
            assert one.lines(frame, sides.PEER, sides.RECEIVED) is not None
    assert native.speedups.stretches() - before >= 2 * len(frames) * 0.8
    for frame in frames[::10]:
        assert one.lines(frame, sides.PEER, sides.RECEIVED)[0] == sides.by_python(frame)[0]


def framed(bodies):
    """Return frames as a service sends them, one after the other."""
    return b"".join(struct.pack(">L", len(body)) + body for body in bodies)


def written(bodies):
    """Return the lines of JSON of a run of frames, and how many stretches of theirs were read by their layout."""
    before, lines, data = native.speedups.layouts(), native.speedups.Lines(), framed(bodies)
    one = sides.core([OutputSettings(path="a")])
    run = one.run(
        *(data, 0, len(data), len(bodies), 1 << 20, sides.PEER, sides.RECEIVED, (lines,)),
        *(lambda body: lines.append(sides.by_python(body)[0]) or 1, 1 << 30, 0, 1),
    )
    assert run[1:3] == (len(bodies), 0)
    return bytes(lines.joined()), native.speedups.layouts() - before


@pytest.mark.parametrize("is_ours", [False, True])
def test_many_stretches_are_read_by_their_layout_and_a_few_are_copied(is_ours):
    """600 places and 600 threads are many; the same 50 fit the processor's caches. Both are noticed, after a while."""
    native.speedups.unlearn()
    frames = [made(site, thread=2**46 + site * 4096, is_ours=is_ours) for site in range(600)]
    for _ in range(8):
        written(frames)
    lines, count = written(frames)
    assert count == 2 * len(frames)
    assert lines == b"".join(sides.by_python(frame)[0] for frame in frames)
    for _ in range(20):
        _, count = written(frames[:50] * 100)
    assert count < 2 * 50 * 100 * 0.05


def test_a_fleet_that_uses_each_place_once_is_read_by_layout():
    """Nothing is copied then, so what is new has to be counted, too."""
    native.speedups.unlearn()
    for start in range(0, 6_000, 600):
        _, count = written([made(site, thread=2**46 + site * 4096) for site in range(start, start + 600)])
    assert count == 2 * 600
    native.speedups.unlearn()


@given(data=st.data())
@bounded
def test_a_record_that_is_not_as_its_layout(data):
    """Octets of it are changed, left out or put in, wherever; its neighbours are as before."""
    is_ours = data.draw(st.booleans())
    frames = [
        made(site, "x" * (site % 4 * 9), thread=2**46 + site % 5 * 4096, is_ours=is_ours, **KINDS[site % 3])
        for site in range(12)
    ]
    for _ in range(4):
        written(frames)
    native.speedups.expect_many()
    others = list(frames)
    for index in data.draw(st.sets(st.integers(1, 11), min_size=1, max_size=4)):
        at = data.draw(st.integers(0, len(frames[index])))
        put = data.draw(st.binary(max_size=3))
        changed = frames[index][:at] + put + frames[index][at + data.draw(st.integers(0, 3)) :]
        if not isinstance(sides.by_python(changed), sides.Rejected):
            others[index] = changed
    lines, count = written(frames + others + frames[::-1])
    assert lines == b"".join(sides.by_python(frame)[0] for frame in frames + others + frames[::-1])
    assert count


LINES = (
    "I00", "I01", "I7", "I0012", "I-7", "I4294967296", "L7L", "L0012L", "L7", "L140289344486016L", "L9999999999999999L",
    "L99999999999999999L", "L9223372036854775808L", "L-140289344486016L", "LL", "L", "L12a4L", "L1 2L", "L 12L", "I12L",
    "L:2345678L", "L1234567/L", "L12345678:L",
)  # fmt: skip
"""Opcodes of lines with numbers, some of which are none."""


@pytest.mark.parametrize("is_many", [False, True])
def test_numbers_in_lines_are_read_as_python_reads_them(cores, is_many):
    """Python 2 sends INT for a thread's number, Python 3 LONG. Such a line may stand at the frame's end, too."""
    whole = made(3)
    assert whole.count(b"L140289344486016L\n") == 1
    warm(cores, whole)
    for line in LINES:
        for frame in (
            whole.replace(b"L140289344486016L", line.encode()),
            whole[:-2] + b"X\x01\x00\x00\x00n" + line.encode() + b"\nu.",
        ):
            for _ in range(4):
                if is_many:
                    native.speedups.expect_many()
                agree(cores, frame)


@pytest.mark.parametrize("is_many", [False, True])
@pytest.mark.parametrize("value", [b"L7L\n", b"I7\n", b"\x8a\x01\x07", b"K\x07", b"U\x03abc"])
@pytest.mark.parametrize("name", ["levelname", "filename", "funcName", "threadName", "levelno", "lineno", "thread"])
def test_values_of_another_kind_than_their_field(cores, name, value, is_many):
    """A field for texts gets the text of a number, however often records with such a value come."""
    for site in range(6):
        record = pickle.loads(made(site, thread=2**40 + site * 4096))
        record[name] = "a mark that comes once"
        frame = pickle.dumps(record, 1).replace(b"X\x16\0\0\0a mark that comes once", value)
        for _ in range(3):
            if is_many:
                native.speedups.expect_many()
            agree(cores, frame)


def test_the_last_value_of_a_frame_is_read_within_it(cores):
    """The process comes last in Python before 3.12, and may take two octets; a name before it may be of any length."""
    for process in (0, 7, 255, 256, 65_535, 65_536, -1, 2**31 - 1):
        for size in (0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 400, 448, 449):
            record = pickle.loads(made(1))
            record.pop("taskName", None)
            del record["process"], record["processName"]
            record.update(processName="p" * size, process=process)
            frame = pickle.dumps(record, 1)
            for _ in range(3):
                native.speedups.expect_many()
                agree(cores, frame)


def test_places_and_threads_that_come_once_are_read_by_their_layout(cores):
    """Also if they have escapes, umlauts and numbers of other lengths; the first core sees each for the first time."""
    assert warm(cores, made(1)) == 2
    before = native.speedups.layouts()
    for number in range(100):
        path = "/srv/" + '\u00fc"' * (number % 3) + f"/{number}.py"
        record = logging.LogRecord("a", 20, path, number * 90, "said", None, None, "f")
        record.thread = 2**40 + number * 4096
        assert agree(cores, HANDLER.makePickle(record)[4:])
    assert native.speedups.layouts() - before >= 190


@pytest.mark.parametrize(
    "thread", [0, 255, 2**31, -(2**31) - 1, 2**39, 2**55 - 1, 2**63 - 1, -(2**63), 2**63, 2**64, 2**80]
)
def test_numbers_of_any_size_in_a_layout(cores, thread):
    """Our handler sends those above 31 bits as LONG1, of which the layout reads eight octets at most."""
    for is_many in (False, True):
        for _ in range(4):
            if is_many:
                native.speedups.expect_many()
            agree(cores, made(2, thread=thread, is_ours=True))
            agree(cores, made(2, is_ours=True))


@pytest.mark.parametrize("begin", [b"", b"\x80\x04", b"\x80\x05", b"\x80\x06", b"\x80\x04\x80\x04"])
@pytest.mark.parametrize("more", [0, 1, -1, -9, 2**32, 2**63])
def test_the_length_of_a_frame_within_the_pickle(cores, begin, more):
    """FRAME says how many octets follow; there may be two, or a second one within the first."""
    whole = made(2, is_ours=True)
    assert whole[:3] == b"\x80\x04\x95"
    body = whole[11:]
    for one in (
        begin + b"\x95" + struct.pack("<Q", (len(body) + more) % 2**64) + body,
        begin
        + b"\x95"
        + struct.pack("<Q", (len(body) + 9 + more) % 2**64)
        + b"\x95"
        + struct.pack("<Q", len(body))
        + body,
        begin + b"\x95" + bytes(8) + b"\x95" + struct.pack("<Q", len(body)) + body,
        begin + body,
    ):
        for _ in range(3):
            agree(cores, one)
        for size in range(20):
            assert not agree(cores, one[:size])


def test_what_was_read_by_its_layout_can_still_be_referred_to(cores):
    """Such a record is read again, key by key; those that follow it for a while are, too."""
    assert warm(cores, made(1)) == 2
    for number in range(30):
        record = logging.LogRecord("a", 20, f"/srv/{number}.py", 7, "said", None, None, f"do_{number}")
        record.again = record.funcName
        assert agree(cores, HANDLER.makePickle(record)[4:])


@pytest.mark.parametrize("is_ours", [False, True])
def test_one_octet_that_differs_is_seen(cores, is_ours):
    """Each octet of a known record, changed to a few others: what comes out is what Python makes of that record."""
    whole = made(2, tenant="north", is_ours=is_ours)
    assert warm(cores, whole) == 2
    draw = random.Random(2)
    for at in range(len(whole)):
        for octet in {whole[at] ^ 1, whole[at] ^ 0x80, draw.randrange(256), 0x71, 0x68} - {whole[at]}:
            agree(cores, whole[:at] + bytes([octet]) + whole[at + 1 :])


@pytest.mark.parametrize(
    "other",
    [
        *(b"N", b"X\x04\0\0\0abcd", b"X\xff\0\0\0", b"G" + bytes(8), b"K\x07", b"U\x03abc", b"I1\n"),
        *(
            b"\x8c\x03abc",
            b"\x8c\xff",
            b"\x8a\x00",
            b"\x8a\x01\xff",
            b"\x8a\x08" + b"\x80" * 8,
            b"\x8a\x09" + bytes(9),
            b"\x94",
        ),
    ],
)
@pytest.mark.parametrize("is_ours", [False, True])
def test_another_opcode_in_the_place_of_a_value(cores, is_ours, other):
    """At each place of a record that has a known layout: the rest is not where the layout has it."""
    for number in range(3):
        assert agree(cores, made(number, thread=2**40 + number, is_ours=is_ours))
    whole = made(9, thread=2**41, is_ours=is_ours)
    for at in range(len(whole)):
        if whole[at : at + 1] in (b"L", b"\x8a", b"\x8c", b"X", b"K", b"M"):
            agree(cores, whole[:at] + other + whole[at + len(other) :])
            agree(cores, whole[:at] + other + whole[at + 1 :])


@pytest.mark.parametrize("is_ours", [False, True])
def test_one_octet_more_or_less_is_seen(cores, is_ours):
    """At each place of a known record."""
    whole = made(3, is_ours=is_ours)
    assert warm(cores, whole) == 2
    for at in range(len(whole)):
        agree(cores, whole[:at] + whole[at + 1 :])
        agree(cores, whole[:at] + b"q" + whole[at:])
        assert not agree(cores, whole[:at])


def test_what_was_skipped_can_still_be_referred_to(cores):
    """A value of the stretch may come again as an extra, and a message may be the logger's name."""
    for site in range(20):
        function, name = f"do_{site}", f"shop.part{site % 3}"
        record = logging.LogRecord(name, 20, "service.py", 7, name, None, None, function)
        record.again = function
        record.where = record.pathname
        record.processName = record.threadName
        frame = HANDLER.makePickle(record)[4:]
        assert b"h" in frame
        for _ in range(4):
            assert agree(cores, frame)
    # filename is the very object that pathname is, which the stretch itself has.
    record = logging.LogRecord("main", 20, "service.py", 7, "said", None, None, "main")
    assert warm(cores, HANDLER.makePickle(record)[4:]) >= 1


def test_numbers_of_the_memo_that_are_used_otherwise(cores):
    """Left out, given twice, or in another order: what BINGET finds later is what Python finds."""
    pairs = [
        ("name", "a"), ("msg", "said"), ("args", None), ("levelname", "INFO"), ("levelno", 20), ("pathname", "/a/b.py"),
        ("filename", "b.py"), ("module", "b"), ("exc_info", None), ("exc_text", None), ("stack_info", None),
        ("lineno", 3), ("funcName", "f"), ("created", 1.5), ("thread", 5), ("threadName", "T"), ("processName", "P"),
        ("process", 9),
    ]  # fmt: skip

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def frame(number, recalled):
        found, index = b"}q\x00(", 0
        for key, value in pairs:
            for one in (key, value):
                if isinstance(one, str):
                    index += 1
                    found += text(one)
                    memo = number(index)
                    found += b"q" + bytes([memo]) if memo is not None else b""
                elif one is None:
                    found += b"N"
                elif isinstance(one, float):
                    found += b"G" + struct.pack(">d", one)
                else:
                    found += b"K" + bytes([one])
        return found + text("x") + b"h" + bytes([recalled]) + b"u."

    plans = (
        lambda index: index,
        lambda index: None,
        lambda index: index if index % 2 else None,
        lambda index: 3,
        lambda index: 40 - index,
        lambda index: index + 10,
        lambda index: 2 if index == 8 else index,
        lambda index: 255 - index,
    )
    wrote = 0
    for _ in range(3):
        for plan in plans:
            for recalled in range(40):
                wrote += agree(cores, frame(plan, recalled))
    assert wrote > 100


def test_more_places_in_the_code_than_are_kept(cores):
    """In any order, each comes out as itself."""
    frames = [made(site) for site in range(2500)]
    draw = random.Random(3)
    for _ in range(2):
        draw.shuffle(frames)
        for frame in frames:
            assert agree(cores, frame)


def test_a_thread_for_every_record(cores):
    """The place in the code stays kept; the threads are many, and are read by their layout."""
    assert warm(cores, made(4)) == 2
    for thread in range(3000):
        assert agree(cores, made(5, thread=thread << 20))
    before = native.speedups.layouts()
    assert warm(cores, made(4)) == 1
    assert native.speedups.layouts() - before == 30 * len(cores)


def test_places_are_forgotten_with_the_keys_they_are_made_of(cores):
    """A stream of ever new keys begins the tree anew; the numbers of its keys then mean others."""
    frame = made(6)
    assert warm(cores, frame) == 2
    for number in range(6_000):
        assert agree(cores, made(6, **{f"key{number}": 1}))
    assert warm(cores, frame) == 2


def test_keys_that_have_no_room_in_the_tree(cores):
    """As many extras as there are services: a record is copied and read as before, but for keys that come twice."""
    for number in range(200):
        extras = {f"tenant{number}": number, f"other{number % 50}": "a", "last": number}
        assert agree(cores, made(6, **extras))
    assert warm(cores, made(6, tenant199=1, other49=2)) == 2
    whole = made(6, tenant198="once", other7="again")
    for key in ("tenant198", "msg", "levelno", "thread", "created", "lineno"):
        for value in (b"N", b"K\x05", b"X\x01\0\0\0z"):
            octets = key.encode()
            again = whole[:-2] + b"X" + struct.pack("<I", len(octets)) + octets + value + b"u."
            for _ in range(3):
                assert not agree(cores, again)
                assert not agree(cores, whole[:-2] + b"U" + bytes([len(octets)]) + octets + value + b"u.")
    assert warm(cores, whole) == 2


def test_structured_extras_are_read_as_before(cores):
    """Records of a known place that are no flat ones: they are read once more, or at once key by key."""
    for number in range(200):
        assert agree(cores, made(7, items=[number, {"a": None}], other=(1, 2)))
        assert agree(cores, made(7))


SINGLE = (
    {"ident": 7}, {"ident": "a"}, {"ident": None}, {"ident": 2**70}, {"ident": 1.5}, {"ident": {"ident": {"a": 1}}},
    {"ident": {}}, {"ident": []}, {"ident": ["a"]}, {"ident": {"a": 1, "b": 2}}, {"ident": (1, "a")}, {"password": "x"},
    {"msg": 1}, {"lineno": 1}, {"args": 1}, {"taskName": "x"}, {7: 1}, {"\u00fc": "\u2028"}, {"": ""}, ["a"],
    ["\ud800"], [""], ["x" * 300], [["a"]], [{"a": "b"}], [7], [None], ["a", "b"], [], {},
)  # fmt: skip


@pytest.mark.parametrize("value", SINGLE, ids=ascii)
@pytest.mark.parametrize("is_ours", [False, True])
def test_containers_with_one_member(cores, value, is_ours):
    """A pickle has no mark before the only member: it looks like an attribute of the record up to its end."""
    for extras in ({"user": value}, {"user": value, "end": 1}, {"a": 1, "user": value, "other": value, "last": value}):
        frame = made(3, is_ours=is_ours, **extras)
        for _ in range(3):
            assert agree(cores, frame)
        for at in range(frame.index(b"user"), len(frame)):
            for octet in (b"s", b"a", b"u", b"q", b"0", b"X"):
                agree(cores, frame[:at] + octet + frame[at:])
                agree(cores, frame[:at] + octet + frame[at + 1 :])
            agree(cores, frame[:at] + frame[at + 1 :])


@pytest.mark.parametrize("is_ours", [False, True])
@pytest.mark.parametrize(
    "value", [{"ident": 7}, {"ident": "a"}, {"ident": {"deep": [5, 6]}}, ["a"], {"ident": ["a"]}], ids=ascii
)
def test_a_container_with_one_member_is_read_once(cores, value, is_ours):
    """So its place in the code and its thread stay copied."""
    for _ in range(20):
        agree(cores, made(3, is_ours=is_ours, user=value, end=1))
    before = native.speedups.stretches()
    for number in range(10):
        assert agree(cores, made(3, str(number), is_ours=is_ours, user=value, end=1))
    assert native.speedups.stretches() - before == 10 * 2 * len(cores)


def test_a_key_that_comes_twice_is_no_key_left_out(cores):
    """The machine reads it again: without it, an opcode that is missing elsewhere would make the record whole."""
    head = made(3, a=1, user=[])[:-2]
    assert agree(cores, head + b"X\1\0\0\0bK\1u.")
    for _ in range(3):
        assert not agree(cores, head + b"X\1\0\0\0aX\1\0\0\0bK\1u.")
        assert not agree(cores, head + b"X\3\0\0\0msgX\1\0\0\0bK\1u.")


@pytest.mark.parametrize("python", ["2.7", "3.6", "3.13"])
def test_other_layouts(cores, python):
    """As other interpreters have it: texts as SHORT_BINSTRING, other orders of keys, a taskName."""
    record = pickle.loads(made(8))
    if python == "3.13":
        record["taskName"] = "Task-1"
    keys = list(record)
    if python == "2.7":
        keys.sort(key=hash)
    found, index = b"}q\x00(", 0
    for key in keys:
        for value in (key, record[key]):
            if isinstance(value, str):
                index += 1
                size = bytes([len(value)]) if python == "2.7" else struct.pack("<I", len(value))
                found += (b"U" if python == "2.7" else b"X") + size + value.encode() + b"q" + bytes([index])
            else:
                found += pickle.dumps(value, 1)[:-1]
    for _ in range(4):
        assert agree(cores, found + b"u.")


FIELDS = ("name", "msg", "levelname", "levelno", "pathname", "filename", "module", "lineno", "funcName", "exc_text")
values = st.sampled_from(
    [None, "", "INFO", "x" * 300, 'q"\\', "caf\u00e9\u2028", "\udc80", 0, 20, 300, 70_000, -1, 2**40]
)


@bounded
@given(
    st.lists(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4), min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 2), st.sampled_from([{}, {"x": 1}, {"x": "INFO"}, {"y": [1]}])), max_size=12),
    st.sampled_from([1, 2, 4]),
)
def test_any_series_of_records(changes, series, protocol):
    """Values of every kind, for fields they fit or not, as they come again and again."""
    cores = (sides.core(), sides.core([OutputSettings(path="a")]))
    base = pickle.loads(made(9))
    for which, extra in series:
        frame = pickle.dumps(base | changes[which % len(changes)] | extra, protocol)
        sides.agree(cores[0], frame)
        lines = cores[1].lines(frame, sides.PEER, sides.RECEIVED)
        if lines is not None:
            assert lines[0] == sides.by_python(frame)[0]

"""A value that is read by the shape of earlier ones gives the JSON that Python writes of it."""

# ruff: noqa: DTZ001 - most services log datetimes without a zone

import datetime as dt
import decimal
import io
import pathlib
import pickle
import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefork_logd.config.outputs import OutputSettings
from prefork_logd.config.redact import DEFAULT_KEYS
from prefork_logd.ingest import core as native
from prefork_logd.records.redaction import Redactor
from tests.parity import sides
from tests.support.strategies import bounded

RECORD = {"name": "shop", "msg": "said", "levelno": 20, "levelname": "INFO", "created": 1_795_404_000.25, "user": 7}
NUMBERS = (
    0,
    1,
    255,
    256,
    65_535,
    65_536,
    2**31 - 1,
    2**31,
    2**47,
    10**16 - 1,
    10**16,
    2**63 - 1,
    2**63,
    2**80,
    -1,
    -(2**40),
)
REALS = (0.0, -0.0, 1.5, 1e300, 5e-324, 1e16, 1e-5, 123456.789, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "", "a", "GET", "/api/v1/items", "x" * 15, "x" * 16, "x" * 17, "x" * 300, 'q"\\', "\n\t\0\x7f", "caf\u00e9",
    "\u2028", "\U0001f600" * 9, "\ud800", "<redacted>",
)  # fmt: skip


def request(method="GET", path="/", size=1, took=0.25, peer="10.0.0.7"):
    """Return the attribute that a web service's records have."""
    return {
        "method": method,
        "path": path,
        "client": {"peer": peer, "port": size, "tls": None, "known": True},
        "accept": ["*/*", "text/html", [took]],
        "parts": [{"id": size, "part": "the first"}, {"id": 7, "part": "the second"}],
        "sizes": [size, took, ("b", size)],
        "end": "of it",
    }


OURS = "ours"


def frame(value, protocol=1, name="request", **further):
    """Return the body of a record's frame with a value among its attributes; OURS: as our handler pickles them."""
    record = RECORD | {name: value} | further
    if protocol != OURS:
        return pickle.dumps(record, protocol)
    body = io.BytesIO()
    pickler = pickle.Pickler(body, 4)
    pickler.fast = True
    pickler.dump(record)
    return body.getvalue()


@pytest.fixture
def cores():
    """Return compiled cores that have learnt nothing yet: one of all outputs, and one of JSON alone."""
    one = sides.core()
    native.speedups.unlearn()
    return one, sides.core([OutputSettings(path="a")])


def agree(cores, body):
    """Check that the cores write what Python writes; return whether they did, and how many values by their shape."""
    before = native.speedups.shapes()
    wanted = None
    is_written = True
    for one in cores:
        lines = one.lines(body, sides.PEER, sides.RECEIVED)
        if lines is None:
            is_written = False
            continue
        wanted = wanted or sides.by_python(body)
        assert lines in (wanted, wanted[:1]), body
    return is_written, native.speedups.shapes() - before


def is_known_at_last(cores, body):
    """Tell whether all cores read the value by its shape after a while: of ever new ones only some are learned."""
    return any(agree(cores, body) == (True, len(cores)) for _ in range(40))


@pytest.mark.parametrize("protocol", [1, 2, 3, OURS])
def test_a_value_whose_shape_came_before_is_read_by_it(cores, protocol):
    """Whatever its texts and numbers are, as long as their opcodes are the same."""
    for _ in range(2):
        agree(cores, frame(request(), protocol))
    assert agree(cores, frame(request(), protocol)) == (True, len(cores))
    draw = random.Random(4)
    for number in range(100):
        # Two objects: the same one twice is a reference. From 256 octets on, protocol 4 has another opcode.
        path, peer = draw.sample([text for text in TEXTS if len(text) < 60], 2)
        value = request(f"m{number}", path, draw.randrange(256), draw.random() * 10**number, peer)
        assert agree(cores, frame(value, protocol)) == (True, len(cores))


@pytest.mark.parametrize("value", [*NUMBERS, *REALS, *TEXTS, None, True, False, [], {}, (), b"x"], ids=ascii)
@pytest.mark.parametrize("place", ["method", "path", "size", "took", "peer"])
@pytest.mark.parametrize("protocol", [1, OURS])
def test_any_value_in_the_place_of_another(cores, place, value, protocol):
    """Behind records with a usual value there, and before them; and when such records come again and again."""
    for _ in range(3):
        agree(cores, frame(request(), protocol))
    for _ in range(4):
        agree(cores, frame(request(**{place: value}), protocol))
    assert is_known_at_last(cores, frame(request(), protocol))


ORDERS = [
    {"id": uuid.UUID(int=number), "due": moment, "total": decimal.Decimal(total)}
    for number, moment, total in [
        (2**127 + 7, dt.datetime(2026, 1, 2, 3, 4, 5), "12.50"),
        (10**38, dt.datetime(9999, 12, 31, 23, 59, 59, 999_999), "-1E+500"),
        (2**128 - 1, dt.datetime(1, 1, 1), "0"),
        (2**64, dt.datetime(2024, 2, 29, 0, 0, 0, 1), "NaN"),
        (2**63, dt.datetime(2026, 1, 2, 3, 4, fold=1), "Infinity"),
        (7, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "1" * 190),
        (0, dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=-3))), "1" * 201),
    ]
]  # fmt: skip


@pytest.mark.parametrize("protocol", [1, 2, 3])
def test_usual_objects(cores, protocol):
    """UUID, datetime and Decimal, alone and in containers; unusual ones are read as before."""
    for _ in range(3):
        for order in ORDERS:
            agree(cores, pickle.dumps(RECORD | order, protocol))
            agree(cores, frame(order | {"end": 1}, protocol))
            agree(cores, frame([order["id"], order["due"], order["total"], 1], protocol))
    # From protocol 2 on, the number of a UUID is LONG1, of which there are no digits.
    assert is_known_at_last(cores, frame(ORDERS[1] | {"end": 1}, protocol)) == (protocol == 1)
    assert is_known_at_last(cores, frame([ORDERS[1]["total"], 1], protocol))
    assert is_known_at_last(cores, frame([ORDERS[1]["due"], 1], protocol)) == (protocol < 3)


@pytest.mark.parametrize(
    "bad",
    [
        b"\x07\xea\r\x02\x03\x04\x05\0\0\0",
        b"\x07\xea\x01\x02\x18\x04\x05\0\0\0",
        b"\x07\xea\x01\x02\x03\x04\x05\xff\xff\xff",
        b"\x07\xea\x01\x02\x03\x04\x05\0\0",
        b"\x07\xea\x01\x02\x03\x04\x05\0\0\0\0",
    ],
)
def test_octets_that_are_no_datetime(cores, bad):
    """As a client may send them in its place."""
    usual = frame([dt.datetime(2026, 1, 2, 3, 4, 5), 1])
    octets = b"\x07\xc3\xaa\x01\x02\x03\x04\x05\0\0\0"
    assert octets in usual
    for _ in range(3):
        agree(cores, usual)
    text = bad.decode("latin-1").encode()
    other = usual.replace(b"X\x0b\0\0\0" + octets, b"X" + len(text).to_bytes(4, "little") + text)
    assert other != usual
    for _ in range(3):
        agree(cores, other)
    for text in (b"\xc3", b"\xc3\xaa" * 10, b"\xc4\x80" * 10, b"\xe2\x82\xac" * 10, b"\xff" * 10):
        agree(cores, usual.replace(b"X\x0b\0\0\0" + octets, b"X" + len(text).to_bytes(4, "little") + text))
    assert is_known_at_last(cores, usual)


@pytest.mark.parametrize(
    "digits", ["", "7", "x", "-7", "1" * 39, "9" * 39, "1" * 40, "0" * 39, "0" * 38 + "7", "1" * 38 + "x"]
)
def test_digits_that_are_no_uuid(cores, digits):
    """As a client may send them in its place; the number may be too large, too, and stand at the frame's end."""
    for value in ([uuid.UUID(int=2**127), 1], uuid.UUID(int=2**127)):
        usual = frame(value)
        number = b"L%dL\n" % 2**127
        assert number in usual
        for _ in range(3):
            agree(cores, usual)
        for _ in range(3):
            agree(cores, usual.replace(number, b"L" + digits.encode() + b"L\n"))
            agree(cores, usual.replace(number, b"L" + digits.encode() + b"\n"))
        assert is_known_at_last(cores, usual)


@pytest.mark.parametrize("protocol", [1, OURS])
def test_one_octet_that_differs_is_seen(cores, protocol):
    """Each octet of a record with a known shape, changed to a few others."""
    whole = frame(request(size=2**40) | ORDERS[0] if protocol == 1 else request(size=2**40), protocol)
    for _ in range(3):
        agree(cores, whole)
    assert agree(cores, whole) == (True, len(cores))
    draw = random.Random(2)
    for at in range(whole.index(b"request"), len(whole)):
        for octet in {whole[at] ^ 1, whole[at] ^ 0x80, draw.randrange(256), 0x71, 0x68, 0x30} - {whole[at]}:
            agree(cores, whole[:at] + bytes([octet]) + whole[at + 1 :])


@pytest.mark.parametrize("protocol", [1, OURS])
def test_one_octet_more_or_less_is_seen(cores, protocol):
    """At each place of a record with a known shape; no record that is not whole is taken."""
    whole = frame(request(size=2**40) | ORDERS[0] if protocol == 1 else request(size=2**40), protocol)
    for _ in range(3):
        agree(cores, whole)
    for at in range(whole.index(b"request"), len(whole)):
        agree(cores, whole[:at] + whole[at + 1 :])
        agree(cores, whole[:at] + b"q" + whole[at:])
        agree(cores, whole[:at] + b"0" + whole[at:])
        assert not agree(cores, whole[:at])[0]


@pytest.mark.parametrize(
    "other",
    [
        b"N",
        b"X\x04\0\0\0abcd",
        b"X\xff\xff\xff\xff",
        b"G" + bytes(8),
        b"K\x07",
        b"U\x03abc",
        b"I01\n",
        b"L-7L\n",
        b"h\x03",
        b"2",
    ],
)
@pytest.mark.parametrize("protocol", [1, OURS])
def test_another_opcode_in_the_place_of_a_value(cores, protocol, other):
    """At each place of a value with a known shape: the rest is not where the shape has it."""
    whole = frame(request(size=70_000) | ORDERS[0] if protocol == 1 else request(size=2**40), protocol)
    for _ in range(3):
        agree(cores, whole)
    for at in range(whole.index(b"request"), len(whole)):
        if whole[at : at + 1] in (b"L", b"X", b"K", b"M", b"J", b"G", b"N", b"I", b"\x8a", b"\x8c"):
            agree(cores, whole[:at] + other + whole[at + len(other) :])
            agree(cores, whole[:at] + other + whole[at + 1 :])


def test_what_was_read_by_a_shape_can_still_be_referred_to(cores):
    """Such a record is read again, key by key."""
    for number in range(40):
        value = request(path=f"/a place that comes once, number {number}")
        assert agree(cores, frame(value))[0]
        for part in (value, value["client"], value["path"], value["accept"]):
            assert agree(cores, frame(value, 1, "request", again=part, end=1))[0]
            assert agree(cores, frame(value, 1, "request", again=[part, part], end=1))[0]


def test_a_list_that_grows_after_the_values_behind_it(cores):
    """It grows where it is an argument that a call drops: as octets 7 comes before 9, and as JSON behind it."""
    head = pickle.dumps(RECORD, 1)[:-2] + b"X\x01\0\0\0zq\x64"
    grown = (
        b"]q\x65(]q\x66(K\x01eK%c" + b"ccopy_reg\n_reconstructor\n(cuuid\nUUID\nc__builtin__\nobject\nh\x66K%ca"
        b"tR}X\x03\0\0\0intL170141183460469231731687303715884105728L\nsbe"
    )  # fmt: skip
    for numbers in [(7, 7)] * 4 + [(7, 9), (9, 7)]:
        assert agree(cores, head + grown % numbers + b"u.")[1] == 0


UUID_OCTETS = (
    b"ccopy_reg\n_reconstructor\n(cuuid\nUUID\nc__builtin__\nobject\n%btR"
    b"}X\3\0\0\0intL170141183460469231731687303715884105728L\nsb"
)


@pytest.mark.parametrize("digits", [b"007", b"0", b"000", b"07L", b"00", b"01"])
def test_a_number_that_begins_with_a_zero_is_no_truth_value(cores, digits):
    """Only 00 and 01 are. Beside it stands a number that a call drops: it must not be taken for the other one."""
    head = pickle.dumps(RECORD, 1)[:-2] + b"X\1\0\0\0z"
    for dropped in [int(digits.rstrip(b"L"))] * 4 + [9, 5, 1]:
        agree(cores, head + b"](I" + digits + b"\n" + UUID_OCTETS % (b"K%c" % dropped) + b"eu.")
        agree(cores, head + b"](" + UUID_OCTETS % (b"K%c" % dropped) + b"I" + digits + b"\neu.")


def test_opcodes_of_values_with_known_shapes_are_counted(cores):
    """Each shape is learned in a record of its own. Together they have more opcodes than Python does for one record."""
    head = pickle.dumps(RECORD, 1)[:-2]
    dear = UUID_OCTETS % (b"(" + b"c\n\n" * 100 + b"t")

    def record(which):
        return head + b"".join(b"X\3\0\0\0z%02d" % at + (dear if at in which else b"K\1") for at in range(55)) + b"u."

    for at in range(55):
        for _ in range(3):
            agree(cores, record({at}))
    assert agree(cores, record({0, 54})) == (True, 2 * len(cores))
    assert not agree(cores, record(range(55)))[0]
    assert agree(cores, record(range(40))) == (True, 40 * len(cores))


def test_a_value_that_is_a_key_later(cores):
    """The same object, so the pickle refers to it; another record has another key there."""
    for number in range(8):
        name = f"the name {number}"
        assert agree(cores, frame({"a": name, "b": {name: number, "c": 1}})) == (True, 0)


def test_secrets_in_a_shape(cores):
    """A value under a secret's name is never read by a shape, and the rules of another core may differ."""
    other = sides.core(redactor=Redactor(["colour"]))
    for number in range(6):
        for value in (
            {"who": f"u{number}", "password": f"p{number}"},
            {"who": f"u{number}", "colour": f"c{number}"},
            {"who": "a", "deep": {"more": [{"api_key": number, "b": 1}]}},
        ):
            assert agree(cores, frame(value))[0]
            assert sides.agree(other, frame(value), Redactor(["colour"]))
    for _ in range(4):
        for name in ("colour", "token", "colour"):
            assert agree(cores, frame({"name": name, "value": "a value"}))[1] == 0
            assert agree(cores, frame({"key": name, "value": "a value", "end": 1}))[1] == 0
            assert agree(cores, frame({"VALUE": "a value", "n": 1, "Header": name}))[1] == 0
            assert agree(cores, frame([[name, "a value"], [name, "b"]]))[1] == 0
            assert agree(cores, frame([(name, "a value"), ("b", "c")]))[1] == 0
    # The attribute itself is named as one.
    for _ in range(4):
        assert agree(cores, frame(request(), name="token"))[0]
        assert agree(cores, pickle.dumps(RECORD | {"key": "password", "value": request()}, 1))


@pytest.mark.parametrize("protocol", [1, 4])
@pytest.mark.parametrize("pattern", ["*e5", "*beef", "*t030405", "*token", "*5/token", "1e*"])
def test_the_text_of_an_object_may_name_a_secret(pattern, protocol):
    """Whether it was read by a shape or not, at the top and within a value."""
    redactor = Redactor([pattern])
    one = sides.core([OutputSettings(path="a")], redactor)
    native.speedups.unlearn()
    names = [
        decimal.Decimal("1E5"),
        uuid.UUID(int=2**127 + 0xBEEF),
        dt.datetime(2026, 1, 2, 3, 4, 5),
        dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC),
        pathlib.PurePosixPath("a5", "token"),
        bytearray(b"token"),
        b"token",
        {"token": 1},
        ["token"],
    ]
    for name in names:
        for _ in range(4):
            for body in (
                frame("x", protocol, "value", key=name),
                frame({"name": name, "value": "x"}, protocol),
                frame([(name, "x"), (name, "y")], protocol),
            ):
                lines = one.lines(body, sides.PEER, sides.RECEIVED)
                assert lines in (None, sides.by_python(body, redactor)[:1])


def test_forms_of_secrets_are_looked_for_in_a_shape():
    """With rules for values nothing is read by a shape."""
    redactor = Redactor(DEFAULT_KEYS, (), ["bearer"])
    one = sides.core(redactor=redactor)
    before = native.speedups.shapes()
    for path in ["/a", "/b", "/c", "Bearer abcdefgh", "/d"]:
        sides.agree(one, frame(request(path=path)), redactor)
    assert native.speedups.shapes() == before


def test_the_members_of_extra_are_attributes(cores):
    """A dict of this name is unfolded, however often it comes."""
    for number in range(6):
        assert agree(cores, frame({"a": number, "b": {"c": "d", "e": number}}, 1, "extra", end=1)) == (True, 0)


@pytest.mark.parametrize("protocol", [1, OURS])
def test_a_value_at_the_end_of_a_frame(cores, protocol):
    """The last text or number is read within the frame, whatever its size."""
    for value in (
        "",
        "x",
        "x" * 7,
        "x" * 15,
        "x" * 16,
        "x" * 40,
        1,
        300,
        70_000,
        2**40,
        1.5,
        None,
        True,
        ORDERS[0]["due"],
    ):
        for wrapped in (
            [1, value],
            {"a": 1, "b": value},
            {"a": 1, "b": [2, value]},
            {"a": "b", "c": {"d": 1, "e": value}},
        ):
            for _ in range(3):
                assert agree(cores, frame(wrapped, protocol))[0]
            for size in range(40):
                agree(cores, frame(wrapped, protocol)[:-size])


def test_empty_containers_cost_what_they_cost_in_python(cores):
    """A value of the most containers for its octets comes to the budget where Python comes to it."""
    head = pickle.dumps(RECORD, 1)[:-2] + b"X\x01\0\0\0z"
    for count in (10, 100, 200, 300, 400, 480):
        for one in (b"}", b"]", b")"):
            for _ in range(3):
                agree(cores, head + b"](" + one * count + b"K\x01eu.")
                agree(cores, head + b"](" + one * count + b"K\x01eX\x01\0\0\0y](" + one * count + b"K\x01eu.")


def test_ever_new_shapes(cores):
    """They do not take the place of a shape that is used, and are hardly learned after a while."""
    usual = frame(request())
    for _ in range(6):
        agree(cores, usual)
    for number in range(300):
        agree(cores, frame({f"key {number} of it": number, "b": 1}))
        if number % 8 == 0:
            assert agree(cores, usual) == (True, len(cores))
    assert agree(cores, usual) == (True, len(cores))


def test_several_shapes_under_one_name(cores):
    """Four of them, in turn, are all known from then on."""
    values = [request(), {"a": 1, "b": "c"}, [1, "x", 2.5], {"a": "text", "b": "c"}]
    for _ in range(3):
        for value in values:
            agree(cores[1:], frame(value))
    for value in values:
        assert agree(cores[1:], frame(value)) == (True, 1)


def test_shapes_are_forgotten_with_the_keys_they_are_made_of(cores):
    """A stream of ever new keys begins the tree anew; the numbers of its keys then mean others."""
    one = cores[1:]
    for number in range(4_500):
        assert agree(one, frame(request(), **{f"key{number}": number}))[0]
    assert is_known_at_last(one, frame(request()))


leaves = st.sampled_from(
    [*NUMBERS, *REALS, *TEXTS, None, True, False, *ORDERS[0].values(), *ORDERS[1].values(), b"x", 2**300]
)
forms = st.recursive(
    st.just("leaf"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(
            st.sampled_from(["a", "method", "name", "value", "token", "x y", "\u00fc", 7]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


def filled(form, draw):
    """Return a form with values drawn for its leaves."""
    if form == "leaf":
        return draw()
    if isinstance(form, dict):
        return {key: filled(one, draw) for key, one in form.items()}
    return type(form)(filled(one, draw) for one in form)


@bounded
@given(st.lists(forms, min_size=1, max_size=3), st.data(), st.sampled_from([1, 1, 2, 4, OURS, OURS]))
def test_any_series_of_values(shapes, data, protocol):
    """Of a few forms, filled with whatever, with octets changed here and there."""
    cores = (sides.core(), sides.core([OutputSettings(path="a")]))
    for _ in range(8):
        form = data.draw(st.sampled_from(shapes))
        usual = data.draw(st.sampled_from([1, 300, "text", 1.5]))
        value = filled(form, lambda usual=usual: usual if data.draw(st.integers(0, 3)) else data.draw(leaves))
        body = frame(value, protocol, end=1) if data.draw(st.booleans()) else frame(value, protocol)
        agree(cores, body)
        at = data.draw(st.integers(body.index(b"request"), len(body)))
        agree(cores, body[:at] + data.draw(st.binary(max_size=2)) + body[at + data.draw(st.integers(0, 2)) :])

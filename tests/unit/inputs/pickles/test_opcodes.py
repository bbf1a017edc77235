import pickletools
import struct

import pytest

from prefork_logd.errors import RecordRejected
from prefork_logd.inputs.pickles.budget import DEFAULT_BUDGET
from prefork_logd.inputs.pickles.opcodes import HANDLERS
from prefork_logd.inputs.pickles.symbols import Set, Tuple
from prefork_logd.inputs.pickles.unpickle import run

IN_THE_LOOP = {ord(code) for code in ("q", "X", "\x8c", "U", "\x94", "h", "N", "K", "G", "(", ".")}


def _run(frame):
    return run(frame, DEFAULT_BUDGET)


def _reason(frame):
    with pytest.raises(RecordRejected) as caught:
        _run(frame)
    return caught.value.reason


def test_every_opcode_is_known():
    """The loop and the table together are the opcodes that pickletools lists, each in one place."""
    assert set(HANDLERS) | IN_THE_LOOP == {ord(opcode.code) for opcode in pickletools.opcodes}
    assert not set(HANDLERS) & IN_THE_LOOP


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        (b"I42\n.", 42),
        (b"I-42\n.", -42),
        (b"I01\n.", True),
        (b"I00\n.", False),
        (b"I1\n.", 1),
        (b"J\xff\xff\xff\xff.", -1),
        (b"M\xff\xff.", 65_535),
        (b"L-12L\n.", -12),
        (b"L12\n.", 12),
        (b"\x8a\x00.", 0),
        (b"\x8a\x01\xff.", -1),
        (b"\x8b\x02\0\0\0\x00\x80.", -32_768),
        (b"F1.5\n.", 1.5),
        (b"F-2e-3\n.", -0.002),
        (b"Finf\n.", float("inf")),
        (b"\x88.", True),
        (b"\x89.", False),
        (b"S'a\\x00\\n\\\\\\'\\xff'\n.", b"a\0\n\\'\xff"),
        (b'S"it\'s"\n.', b"it's"),
        (b"T\x02\0\0\0ab.", b"ab"),
        (b"Va\\u00e9\\\\\n.", "aé\\\\"),
        (b"V\\ud800\n.", "\ud800"),
        (b"\x8d\x01" + b"\0" * 7 + b"a.", "a"),
        (b"C\x02\x00\xff.", b"\x00\xff"),
        (b"B\x01\0\0\0\xff.", b"\xff"),
        (b"\x8e\x01" + b"\0" * 7 + b"\xff.", b"\xff"),
        (b"\x96\x01" + b"\0" * 7 + b"\xff.", bytearray(b"\xff")),
        (b"].", []),
        (b"]Na.", [None]),
        (b"](NK\x01e.", [None, 1]),
        (b"(NK\x01l.", [None, 1]),
        (b"NN0.", None),
        (b"N(NN1.", None),
        (b"N(0.", None),
        (b"(N2l.", [None, None]),
        (b"Np7\n0g7\n.", None),
        (b"\x80\x05\x95\x02\0\0\0\0\0\0\0N..", None),
    ],
)
def test_values(frame, value):
    """Each opcode pushes the value that its bytes spell."""
    if frame.endswith(b".."):
        frame = frame[:-1]
    got = _run(frame)
    assert got == value
    assert type(got) is type(value) or isinstance(got, bytes)


@pytest.mark.parametrize("frame", [b")", b"(t", b"N\x85", b"NN\x86", b"NNN\x87"])
def test_tuples(frame):
    """Tuples of every size are built from the stack."""
    node = _run(frame + b".")
    assert type(node) is Tuple
    assert node.items == [None] * frame.count(b"N")


def test_dicts_and_sets():
    """Members are kept in order, duplicates included."""
    assert _run(b"(NK\x01NK\x02d.").flat == [None, 1, None, 2]
    assert _run(b"}NK\x01s.").flat == [None, 1]
    node = _run(b"\x8f(K\x01K\x01\x90.")
    assert type(node) is Set
    assert (node.items, node.frozen) == ([1, 1], False)
    assert _run(b"(K\x01\x91.").frozen


@pytest.mark.parametrize(
    "frame",
    [
        b"I1_0\n.", b"I\n.", b"I0x1\n.", b"Lx\n.", b"L1_0L\n.", b"I\xd9\xa1\n.", b"F1_0\n.", b"F\n.", b"F0x1p3\n.",
        b"F 1\n.", b"Fnan1\n.", b"S'a\n.", b"S'\n.", b"Sa\n.", b"S'a\"\n.", b"V\\u12\n.", b"V\\U00110000\n.",
        b"T\xff\xff\xff\xff.", b"\x8b\xff\xff\xff\xff.",
    ],
)  # fmt: skip
def test_malformed_scalars(frame):
    """Spellings that no pickler writes are refused; nothing is guessed."""
    assert _reason(frame) == "malformed"


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (b"L" + b"9" * 5_000 + b"L\n.", "5000 digits"),
        (b"I" + b"9" * 5_000 + b"\n.", "5000 digits"),
        (b"\x8b" + struct.pack("<i", 1_701) + b"\1" * 1_701 + b".", "1701 bytes"),
    ],
)
def test_long_integers(frame, text):
    """One that no honest client has is replaced by its size."""
    assert _run(frame).text == f"<truncated integer of {text}>"


def test_long_names():
    """A name has a length that no honest one reaches, and is cut there; a number has one, too."""
    assert _run(b"c" + b"m" * 300 + b"\nn\n.").module == "m" * 256 + "<truncated>"
    assert _reason(b"F" + b"1" * 100 + b"\n.") == "malformed"


def test_largest_integer_is_taken():
    """An integer of the whole budget is read in each spelling."""
    digits = b"9" * 4_090
    assert _run(b"L" + digits + b"L\n.") == int(digits)
    assert _run(b"\x8b" + struct.pack("<i", 1_700) + b"\x7f" * 1_700 + b".").bit_length() == 13_599


@pytest.mark.parametrize(
    "frame",
    [
        b"NNa.", b"(Nla", b")Na.", b"\x8fNa.", b"](N\x90.", b"}(N\x90.", b"(N\x91(N\x90.", b"]NNs.", b"](NNu.",
        b"}(Nu.", b"(Nd.", b"}]Ns.", b"}}Ns.", b"}\x8fNs.", b"}]\x85Ns.", b"}]\x85\x85Ns.", b"\x8f(]\x90.", b"(]\x91.",
        b"}\x96\0\0\0\0\0\0\0\0Ns.", b"\x85.", b"N\x86.", b"NN\x87.", b"]a.", b"e.", b"t.", b"Ns.", b"1.", b"0.",
    ],
)  # fmt: skip
def test_containers_take_only_what_they_can_hold(frame):
    """What would raise in Python, an unhashable key above all, is refused without asking Python."""
    assert _reason(frame) in {"malformed", "truncated"}


@pytest.mark.parametrize("key", [b")", b"N\x85", b"(N)\x85t", b"(\x91", b"K\x01", b"cm\nn\n", b"cm\nn\n)R"])
def test_hashable_keys(key):
    """Tuples of hashable values, frozensets, names and objects are keys."""
    assert len(_run(b"}" + key + b"Ns.").flat) == 2


@pytest.mark.parametrize("code", [b"\x82\x01", b"\x83\x01\0", b"\x84\x01\0\0\0", b"Pid\n", b"NQ", b"\x97", b"N\x98"])
def test_what_refers_outside_the_record_is_forbidden(code):
    """Extension codes, persistent ids and out-of-band buffers are never resolved."""
    assert _reason(code + b".") == "forbidden"


@pytest.mark.parametrize(
    "frame",
    [b"\x80\x06N.", b"\x80\xffN.", b"N\x80\x02.", b"\x80\x04\x95\x0a" + b"\0" * 7 + b"\x95" + b"\0" * 8 + b"N."],
)
def test_framing_of_the_pickle_itself(frame):
    """The protocol stands at the start and is known; frames do not nest."""
    assert _reason(frame) == "malformed"


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_known(protocol):
    """PROTO 0 to 5."""
    assert _run(b"\x80" + bytes([protocol]) + b"N.") is None

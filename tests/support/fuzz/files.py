"""Targets beyond the line, each with seeds of its own: files that are read, values by their type, profile buffers."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from random import Random

from protocols.capture.pcap import read_capture
from protocols.capture.recorded import RecordedOctets
from protocols.capture.streams import chunks
from protocols.capture.trace_file import read_trace
from protocols.dlms.apdu.notification import DataNotification, EventNotification
from protocols.dlms.apdu.notification import decode as decode_notification
from protocols.dlms.companion import companion
from protocols.dlms.companion.declaration import DeclarationTable
from protocols.dlms.companion.push_parser import push_grammar
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.types import array, structure
from protocols.dlms.explore.saved_meter import SavedAttribute, SavedMeter, SavedObject, from_text, to_text
from protocols.dlms.framing import mode_e
from protocols.dlms.framing.wrapper import decode_datagram
from protocols.dlms.objects.codec import Codec, Where
from protocols.dlms.objects.describe import TYPED, codec_of
from protocols.dlms.objects.object_list import ObjectEntry, build_object_list, parse_object_list
from protocols.dlms.profile.decoder import decode_buffer, decode_cut_buffer
from protocols.dlms.profile.layouts import Layout
from protocols.dlms.push.body import body_of, event_of
from protocols.dlms.push.explain import explained
from protocols.dlms.push.layout import companion_layouts
from protocols.dlms.trace.conversations import decode_conversations
from protocols.dlms.trace.mask import ConversationMask
from protocols.dlms.trace.state import TraceState
from protocols.errors import MeterConfigError, MeterProtocolError
from protocols.reading import Obis
from protocols.session import COMPANIONS
from protocols.simulator.faults.rows import delta_columns
from protocols.toml_lines import TomlLines
from tests.support.dlms.bench import KEYS, TITLE, SmallMeter
from tests.support.dlms.pushes import ALERT, FRAMED, datagram, octets_of
from tests.support.dlms.random_profiles import compact_rows_for, layout_of, maker_of
from tests.support.fuzz.seeds import pushed_frames
from tests.support.paths import ROOT
from tests.support.pcap_writer import CLIENT, METER, pcap, pcapng, tcp, udp

Target_ = Callable[[bytes], object]
TRACES = ROOT / "tests" / "protocols" / "dlms" / "traces"
DECLARED = ROOT / "protocols" / "dlms" / "companion"
PUSHES = {
    "spodes": "ru-spodes-energies",
    "aidon": "se-aidon-27",
    "kamstrup": "dk-kamstrup-0x30",
    "kaifa": "se-kaifa-list3",
    "iskra": "si-iskra-plain",
}
GRAMMARS = tuple(companion(name).push for name in COMPANIONS)  # read here, and not in the steps of a frame
companion_layouts()
NOW = datetime(2026, 6, 1, tzinfo=UTC)
NEWEST = 99
"""A version of a class that nobody has: the newest that is known stands for it."""
LOGS = 7
"""Event logs that a companion may name."""
LAYOUTS = 8
ROWS = 12


def _known() -> TraceState:
    return TraceState(keys=KEYS, titles=(TITLE,))


def _capture(data: bytes) -> None:
    heard = (
        RecordedOctets(
            conversation=c.conversation,
            sent=c.forward,
            octets=c.octets,
            offset=c.offset,
            at=c.at,
            whole=c.datagram,
            missing=c.missing,
            always_shown=False,
        )
        for c in chunks(read_capture(data))
    )
    decode_conversations(heard, _known).document()


def _trace_file(data: bytes) -> None:
    pieces = read_trace(data.decode("latin-1"))
    recorded = (RecordedOctets(conversation=0, sent=p.sent, octets=p.octets, offset=0) for p in pieces)
    decode_conversations(recorded, _known).lines()


def _body(data: bytes) -> None:
    match decode_notification(data):
        case DataNotification() as pushed:
            body_of(pushed)
        case EventNotification() as event:
            event_of(event)


def _grammar(data: bytes) -> None:
    """Read a push by the companion that the first octet chooses, to its reading sets."""
    grammar = GRAMMARS[(data or b"\0")[0] % len(GRAMMARS)]
    octets = data[1:]
    found = explained(octets, grammar, keys=None, zone=cosem_time.INDIA, received_at=NOW)
    assert found.pushes or found.mistakes


def _push_companion(data: bytes) -> None:
    """Read a user's grammar of pushes."""
    text = data.decode("latin-1")
    try:
        push = tomllib.loads(text).get("push", {})
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MeterConfigError(str(error)) from error
    if isinstance(push, dict):
        push_grammar("a", DeclarationTable(push, "a.toml [push]", TomlLines(text), ("push",)), LOGS)


def _typed(data: bytes) -> None:
    """Read a value as the attribute that the first octet chooses."""
    codecs = _codecs()
    value = axdr.decode(data[1:])
    codec = codecs[(data or b"\0")[0] % len(codecs)]
    codec.show(codec.parse(value, Where("here")))


@lru_cache(maxsize=1)
def _codecs() -> tuple[Codec[object], ...]:
    members = ((c, version, n) for c in sorted(TYPED) for version in (0, NEWEST) for n in range(1, 20))
    return tuple(dict.fromkeys(codec for one in members if (codec := codec_of(*one)) is not None))


@lru_cache(maxsize=1)
def _layouts() -> tuple[Layout, ...]:
    return tuple(layout_of(Random(seed)) for seed in range(LAYOUTS))


def _columns(data: bytes) -> None:
    layout = _layouts()[(data or b"\0")[0] % LAYOUTS]
    _ = decode_buffer(layout, data[1:], zone=cosem_time.INDIA).sets(received_at=NOW).sets


def _prefix(data: bytes) -> None:
    layout = _layouts()[(data or b"\0")[0] % LAYOUTS]
    _ = decode_cut_buffer(layout, data[1:], zone=cosem_time.INDIA).sets(received_at=NOW).sets


def _block(data: bytes) -> None:
    layout = _layouts()[(data or b"\0")[0] % LAYOUTS]
    for _ in decode_buffer(layout, data[1:], zone=cosem_time.INDIA).rows():
        pass


def _datagrams(data: bytes) -> None:
    try:
        decode_datagram(data)
    except MeterProtocolError:
        datagram(data)


def _mask(data: bytes) -> None:
    """Feed both directions of a trace's mask: as many octets come out as went in."""
    mask = ConversationMask()
    assert len(mask.sent(data)) == len(data)
    assert len(mask.received(data) + mask.rest()) == len(data)


FILES: dict[str, Target_] = {
    "mask": _mask,
    "capture": _capture,
    "trace-file": _trace_file,
    "push-body": _body,
    "push-grammar": _grammar,
    "push-companion": _push_companion,
    "toml-lines": lambda data: TomlLines(data.decode("latin-1")),
    "typed-object": _typed,
    "object-list": lambda data: parse_object_list(axdr.decode(data)),
    "columns": _columns,
    "columns-prefix": _prefix,
    "columns-block": _block,
    "saved-meter": lambda data: from_text(data.decode("latin-1")),
    "mode-e": lambda data: mode_e.IdentificationReader().receive_data(data),
    "datagram": _datagrams,
}


@lru_cache(maxsize=1)
def seeds_of_files() -> dict[str, tuple[bytes, ...]]:
    """Give what each of these targets is fed before it is mutated."""
    buffers = tuple(_buffers())
    values = tuple(axdr.encode(value) for value in SmallMeter().attributes.values())
    return {
        "capture": tuple(_captures()),
        "trace-file": tuple(path.read_bytes()[:3000] for path in sorted(TRACES.glob("*.trace"))),
        "push-body": (ALERT,),
        "push-grammar": tuple(_pushes()),
        "push-stream": pushed_frames(),
        "push": pushed_frames(),
        "push-companion": tuple(path.read_bytes() for path in sorted(DECLARED.glob("*/push.toml"))),
        "toml-lines": tuple(path.read_bytes()[:3000] for path in sorted(DECLARED.rglob("*.toml"))),
        "typed-object": tuple(bytes((n,)) + v[:2000] for n, v in enumerate((*values, _object_list()))),
        "object-list": (_object_list(),),
        "columns": buffers,
        "columns-prefix": buffers,
        "columns-block": buffers,
        "saved-meter": (_saved(),),
        "mode-e": (b"/GEN5\\2METER01\r\n", b"\x00/?!\r\n/ABC6\\2\\W1.0\r\n"),
        "datagram": tuple(FRAMED),
        "mask": tuple(FRAMED),
    }


def _pushes() -> Iterator[bytes]:
    """Give pushes from the field, and of each framing, behind the number of the companion that reads them."""
    for octets in pushed_frames():
        yield bytes((COMPANIONS.index("is15959"),)) + octets
    for name, case in PUSHES.items():
        yield bytes((COMPANIONS.index(name),)) + octets_of(case)


def _captures() -> Iterator[bytes]:
    frame = FRAMED[0]
    packets = [
        tcp(CLIENT, METER, 100, flags=2),
        tcp(CLIENT, METER, 101, frame[:30]),
        tcp(CLIENT, METER, 131, frame[30:]),
        udp(METER, CLIENT, frame),
    ]
    for write in (pcap, pcapng):
        for order in ("<", ">"):
            yield write(packets, order=order)


def _buffers() -> Iterator[bytes]:
    for seed, layout in enumerate(_layouts()):
        random = Random(seed)
        makers = [maker_of(random, column.is_stamp) for column in layout.columns]
        rows = [structure(*(make(random, n) for make in makers)) for n in range(ROWS)]
        for buffer in (array(*rows), array(*delta_columns(rows)), compact_rows_for(random, layout)):
            yield bytes((seed,)) + axdr.encode(buffer)


def _object_list() -> bytes:
    entries = (
        ObjectEntry(class_id=c, version=0, obis=Obis(0, 0, 1, n, 0), attributes={1: 1, 2: 3}, methods={1: 1})
        for n, c in enumerate((1, 3, 7, 8))
    )
    return axdr.encode(build_object_list(entries))


def _saved() -> bytes:
    clock = SavedObject(
        class_id=8,
        version=0,
        obis=Obis(0, 0, 1, 0, 0),
        attributes=(SavedAttribute(index=2, access=1, value=b"\x11\x05"), SavedAttribute(index=3, code=3)),
    )
    saved = SavedMeter(
        manufacturer="GEN",
        serial="00000007",
        explored_at=NOW,
        object_list=_object_list(),
        objects=(clock,),
    )
    return to_text(saved).encode("latin-1", "replace")

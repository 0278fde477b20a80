"""Each named bound of what comes from outside is exceeded once, and answered with an error that says so."""

from __future__ import annotations

import struct
from datetime import UTC, datetime
from typing import Any

import pytest

from protocols.capture import pcap, trace_file
from protocols.dlms.apdu.notification import DataNotification
from protocols.dlms.data import axdr
from protocols.dlms.data.axdr import FREE_ELEMENTS
from protocols.dlms.data.cursor import encode_length
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    capture_object,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.explore import saved_meter
from protocols.dlms.objects import parse_object_list
from protocols.dlms.objects.object_list import MAX_MEMBERS
from protocols.dlms.profile import layouts
from protocols.dlms.profile.layouts import parse_columns
from protocols.dlms.push import body as push_body
from protocols.dlms.push import places as push_forms
from protocols.dlms.push.body import body_of
from protocols.dlms.reading.layout_cache import LayoutCache
from protocols.dlms.trace import apdus as trace_apdu
from protocols.dlms.trace.frames import decode_trace
from protocols.errors import MeterConfigError, MeterProtocolError
from protocols.reading import Obis

CLOCK = Obis(0, 0, 1, 0, 0)
SETUP = octets(bytes((0, 0, 25, 9, 0, 255)))
ROW = structure(long_unsigned(1))
MAX_INTERFACES = 4096
"""Of one section of pcapng; the library's own bound."""


def test_a_short_value_cannot_announce_very_many_elements() -> None:
    # four structures of one octet, each with an array of 65,535 nulls that take none
    hostile = bytes.fromhex("1302021101FFFF000401020304")
    with pytest.raises(MeterProtocolError, match="elements"):
        axdr.decode(hostile)
    empty = bytes((Tag.ARRAY,)) + encode_length(FREE_ELEMENTS * 3) + bytes(FREE_ELEMENTS * 3)
    assert len(axdr.decode(empty).items) == FREE_ELEMENTS * 3


def test_columns_of_a_profile() -> None:
    one = capture_object(3, Obis(1, 0, 1, 8, 0))
    assert len(parse_columns(array(*[one] * layouts.MAX_COLUMNS))) == layouts.MAX_COLUMNS
    with pytest.raises(MeterProtocolError, match="257 columns; 256 are read"):
        parse_columns(array(*[one] * (layouts.MAX_COLUMNS + 1)))


@pytest.mark.parametrize(
    "payload",
    [
        [long_unsigned(1)] * push_forms.MAX_CELLS,
        [array(*[ROW] * (push_body.MAX_ROWS + 1))],
        [array()],
    ],
    ids=["cells", "rows", "no rows"],
)
def test_cells_and_rows_of_a_push(payload: list[Data]) -> None:
    body = structure(octets(b"GEN1"), SETUP, octets(bytes(12)), *payload)
    with pytest.raises(MeterProtocolError, match="push"):
        body_of(DataNotification(invoke=1, date_time=b"", body=body))


def test_access_rights_of_an_object() -> None:
    rights = array(*[structure(integer(1), enum(1), Data(Tag.NULL, None))] * (MAX_MEMBERS + 1))
    entry = structure(long_unsigned(1), unsigned(0), octets(CLOCK.to_bytes()), structure(rights, array()))
    with pytest.raises(MeterProtocolError, match=f"at most {MAX_MEMBERS} access rights"):
        parse_object_list(array(entry))


def test_apdus_in_apdus_of_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_apdu, "MAX_APDU_DEPTH", 1)
    aarq = bytes.fromhex("601DA109060760857405080101BE10040E01000000065F1F0400007E1F04B0")
    problem = decode_trace(aarq).problem
    assert problem is not None
    assert "nested deeper than 1" in problem.reason


def pcap_of(count: int, size: int = 4) -> bytes:
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)
    return head + (struct.pack("<IIII", 0, 0, size, size) + bytes(size)) * count


def test_packets_of_a_capture(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pcap, "MAX_PACKETS", 3)
    assert len(list(pcap.read_capture(pcap_of(3)))) == 3
    with pytest.raises(MeterProtocolError, match="more than 3 packets"):
        list(pcap.read_capture(pcap_of(4)))
    monkeypatch.setattr(pcap, "MAX_PACKET", 8)
    with pytest.raises(MeterProtocolError):
        list(pcap.read_capture(pcap_of(1, size=9)))


def test_interfaces_of_a_capture() -> None:
    section = struct.pack("<IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)
    interface = struct.pack("<IIHHII", 1, 20, 101, 0, 0, 20)
    assert list(pcap.read_capture(section + interface * MAX_INTERFACES)) == []
    with pytest.raises(MeterProtocolError):
        list(pcap.read_capture(section + interface * (MAX_INTERFACES + 1)))


def test_lines_of_a_trace_file(monkeypatch: pytest.MonkeyPatch) -> None:
    line = trace_file.piece_line(datetime(2026, 1, 1, tzinfo=UTC), sent=True, octets=b"\x7e") + "\n"
    monkeypatch.setattr(trace_file, "MAX_PIECES", 2)
    assert len(list(trace_file.read_trace(line * 2))) == 2
    with pytest.raises(MeterProtocolError, match="more than 2 pieces"):
        list(trace_file.read_trace(line * 3))
    monkeypatch.setattr(trace_file, "MAX_CHARACTERS", 10)
    with pytest.raises(MeterProtocolError, match="10 are read at once"):
        list(trace_file.read_trace(line))


def test_characters_of_a_saved_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saved_meter, "MAX_CHARACTERS", 10)
    with pytest.raises(MeterConfigError, match="10 are read"):
        saved_meter.from_text("x" * 11)


def test_a_full_cache_of_layouts_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("protocols.known.MAX_ENTRIES", 2)
    entries: dict[Any, Any] = {}
    for number in range(5):
        LayoutCache(entries, f"GEN:{number}", "F1").put_objects("48", ())
        assert len(entries) <= 2

"""The command `decode`: hex as people paste it, files of hex and of octets, keys from a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from protocols.dlms.framing.wrapper import encode
from tests.support.cli import Cli
from tests.support.modbus.raw_responder import mbap, rtu
from tests.support.pcap_writer import CLIENT, METER, pcap, pcapng, tcp, udp

ODD = ("10.0.0.7", 12345)
GET = "C0010000080000010000FF0200"
CIPHERED = "C81E3001234567411312FF935A47566827C467BC7D825C3BE4A77C3FCC056B6B"
KEYS = """encryption_key = "000102030405060708090A0B0C0D0E0F"
authentication_key = "D0D1D2D3D4D5D6D7D8D9DADBDCDDDEDF"
"""


@pytest.mark.parametrize("given", [GET, "c0:01:00 00:08 00 00 01 00 00 FF\n02 00", f"0x{GET}"])
def test_hex_as_people_paste_it(cli: Cli, given: str) -> None:
    assert "class 8, 0-0:1.0.0*255, attribute 2" in cli("decode", given).out


def test_files_of_octets_and_of_hex(cli: Cli) -> None:
    for name, content in (("raw", bytes.fromhex(GET)), ("hex", f"{GET[:10]}\n{GET[10:]}\n".encode())):
        (cli.folder / name).write_bytes(content)
        assert "get-request" in cli("decode", str(cli.folder / name)).out


def private(cli: Cli, text: str) -> Path:
    path = cli.folder / "keys.toml"
    path.write_text(text, encoding="utf-8")
    path.chmod(0o600)
    return path


def test_keys_come_from_a_private_file(cli: Cli) -> None:
    private(cli, KEYS)
    keys = ("--key-file", str(cli.folder / "keys.toml"), "--system-title", "4D4D4D0000BC614E")
    assert "0-0:1.0.0*255" in cli("decode", CIPHERED, *keys).out
    assert "0-0:1.0.0*255" not in cli("decode", CIPHERED).out
    (cli.folder / "keys.toml").chmod(0o644)
    assert "chmod 600" in cli.refuses("decode", CIPHERED, *keys, code=3)


def test_the_first_wrong_byte(cli: Cli) -> None:
    said = cli("decode", "C001C10008", "--json", code=1)
    assert json.loads(said.out)["problem"] == {"offset": 5, "of": "", "reason": "6 octets wanted, 0 left"}
    assert "wrong at offset 0x0005 (5)" in said.err


def test_wrong_use(cli: Cli) -> None:
    keys = private(cli, KEYS.replace("0E0F", "0E0F0E"))
    said = cli.refuses("decode", CIPHERED, "--key-file", keys, code=3)
    assert "encryption_key has 34 octets" in said
    assert "0E0F" not in said
    private(cli, KEYS.replace('"0001', "0001"))
    assert "0203" not in cli.refuses("decode", CIPHERED, "--key-file", keys, code=3)
    private(cli, 'pasword = "x"')
    assert "`pasword` is none of" in cli.refuses("decode", CIPHERED, "--key-file", keys, code=3)
    assert "neither hex" in cli("decode", "no such thing", code=2).err
    assert "16 hex digits" in cli.refuses("decode", GET, "--system-title", "47", code=2)


GET_PACKET = encode(16, 1, bytes.fromhex(GET))
ANSWER = encode(1, 16, bytes.fromhex("C401C10006000006B3"))


@pytest.mark.parametrize("write", [pcap, pcapng])
def test_a_capture_whatever_its_ports(cli: Cli, write: Callable[[list[bytes]], bytes]) -> None:
    packets = [
        tcp(("10.0.0.1", 33000), ("10.0.0.9", 80), 1, b"GET / HTTP/1.1\r\n"),
        tcp(CLIENT, ODD, 10, GET_PACKET[9:]),
        tcp(CLIENT, ODD, 1, GET_PACKET[:9]),
        tcp(ODD, CLIENT, 1, ANSWER),
        tcp(ODD, CLIENT, 1, ANSWER),
    ]
    path = cli.folder / "capture.bin"
    path.write_bytes(write([tcp(CLIENT, ODD, 0, flags=2), *packets]))
    got = cli("decode", path)
    assert got.out.count("get-response") == 1
    assert "10.0.0.1:50000 → 10.0.0.7:12345" in got.out
    assert "double-long-unsigned 1715" in got.out
    assert "1 other conversations are neither DLMS nor Modbus" in got.err
    path.write_bytes(write(packets)[:-30])
    assert "cut short at offset" in cli("decode", path, code=1).err


def test_a_capture_names_the_offset_in_its_file(cli: Cli) -> None:
    damaged = encode(1, 16, bytes.fromhex("C401C100FD0000"))
    content = pcap([udp(METER, CLIENT, ANSWER), udp(METER, CLIENT, damaged), udp(METER, CLIENT, ANSWER)])
    (cli.folder / "c.pcap").write_bytes(content)
    got = cli("decode", cli.folder / "c.pcap", "--json", code=1)
    assert len(got.json["parts"]) == 3
    assert content[got.json["problem"]["offset"]] == 0xFD
    (cli.folder / "c.pcap").write_bytes(pcap([udp(METER, CLIENT, b"no meter")]))
    assert "no DLMS or Modbus found" in cli("decode", cli.folder / "c.pcap", code=1).err


def test_a_trace_file_names_the_line(cli: Cli) -> None:
    path = cli.folder / "t.trace"
    path.write_text(
        f"# meter-gateway trace 1\n> {GET_PACKET.hex()}\n< {ANSWER[:-1].hex()}\n", encoding="ascii"
    )
    got = cli("decode", path, code=1)
    assert "class 8, 0-0:1.0.0*255, attribute 2" in got.out
    assert "line 3 of the trace" in got.err
    path.write_text("# meter-gateway trace 1\n> 7E\nwhat?\n", encoding="ascii")
    assert "line 3 of the trace" in cli("decode", path, code=1).err


def test_modbus_is_known_in_hex_traces_and_captures(cli: Cli) -> None:
    asked, answered = rtu(5, 4, 0, 0, 0, 2), rtu(5, 4, 4, 0x43, 0x67, 0x66, 0x66)
    said = cli("decode", (asked + answered).hex(), "--model", "sdm120").out
    assert "unit 5, answer" in said
    assert "1-0:12.7.0*255 voltage: 231.4 V" in said
    assert "unit 5, request" in cli("decode", asked.hex()).out
    assert "no frame of Modbus RTU" in cli("decode", (b"\0\0" + asked).hex(), "--modbus", code=1).err
    trace = cli.folder / "trace"
    trace.write_text(
        f"# meter-gateway trace 1\n> {asked.hex()}\n< {answered[:4].hex()}\n< {answered[4:].hex()}\n"
    )
    assert "231.4 V" in cli("decode", trace, "--model", "sdm120").out
    conversation = (
        (CLIENT, METER, mbap(b"\0\1", 5, 4, 0, 0, 0, 2)),
        (METER, CLIENT, mbap(b"\0\1", 5, 4, 4, 0x43, 0x67, 0x66, 0x66)),
    )
    packets, numbers = [], {CLIENT: 100, METER: 900}
    for source, destination, octets in conversation:
        packets.append(tcp(source, destination, numbers[source], octets))
        numbers[source] += len(octets)
    (cli.folder / "bus.pcap").write_bytes(pcap(packets))
    said = cli("decode", cli.folder / "bus.pcap", "--model", "sdm120").out
    assert "Modbus TCP: unit 5, answer" in said
    assert "231.4 V" in said


def test_a_capture_of_both_protocols_and_another_is_told_apart(cli: Cli) -> None:
    """Each is read once, in the order of the recording; what is neither is counted."""
    other, dns = (CLIENT[0], 50_001), (METER[0], 5353)
    packets = [
        udp(CLIENT, METER, GET_PACKET),
        udp(other, (METER[0], 502), mbap(b"\0\1", 5, 4, 0, 0, 0, 2)),
        udp(other, dns, b"neither of them"),
        udp((METER[0], 502), other, mbap(b"\0\1", 5, 4, 4, 0x43, 0x67, 0x66, 0x66)),
    ]
    (cli.folder / "both.pcap").write_bytes(pcap(packets))
    got = cli("decode", cli.folder / "both.pcap", "--model", "sdm120")
    assert got.out.index("0-0:1.0.0*255") < got.out.index("unit 5, request") < got.out.index("231.4 V")
    assert got.out.count("unit 5, request") == 1
    assert "1 other conversations are neither" in got.err
    found = cli("decode", cli.folder / "both.pcap", "--json").json
    assert (found["others"], len(found["parts"]), found["problem"]) == (1, 3, None)

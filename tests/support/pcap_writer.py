"""Writes captures: Ethernet and other links, IPv4 and IPv6, TCP and UDP, pcap and pcapng."""

from __future__ import annotations

import struct
from ipaddress import ip_address

METER, CLIENT = ("10.0.0.7", 4059), ("10.0.0.1", 50000)
METER6, CLIENT6 = ("fd00::7", 8000), ("fd00::1", 50001)
End = tuple[str, int]


def tcp(source: End, destination: End, sequence: int, content: bytes = b"", flags: int = 0x18) -> bytes:
    head = struct.pack(
        ">HHIIBBHHH", source[1], destination[1], sequence % (1 << 32), 0, 0x50, flags, 1000, 0, 0
    )
    return ip(source, destination, 6, head + content)


def udp(source: End, destination: End, content: bytes) -> bytes:
    return ip(
        source,
        destination,
        17,
        struct.pack(">HHHH", source[1], destination[1], 8 + len(content), 0) + content,
    )


def ip(source: End, destination: End, protocol: int, content: bytes) -> bytes:
    hosts = ip_address(source[0]).packed + ip_address(destination[0]).packed
    if len(hosts) == 32:
        extension = bytes((protocol, 0, 1, 4, 0, 0, 0, 0))  # hop-by-hop options
        return struct.pack(">IHBB", 6 << 28, 8 + len(content), 0, 64) + hosts + extension + content
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(content), 1, 0, 64, protocol, 0) + hosts + content


def framed(packet: bytes, link: int) -> bytes:
    kind = b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd"
    return {
        1: bytes(12) + b"\x81\x00\x00\x05" + kind + packet + bytes(4),  # a VLAN tag, and Ethernet's padding
        113: bytes(14) + kind + packet,
        276: kind + bytes(18) + packet,
        0: (b"\x02" if packet[0] >> 4 == 4 else b"\x1e") + bytes(3) + packet,  # AF_INET, AF_INET6 of macOS
        101: packet,
    }[link]


def pcap(packets: list[bytes], *, link: int = 1, order: str = "<", nanoseconds: bool = False) -> bytes:
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    out = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 262144, link)
    for number, packet in enumerate(packets):
        octets = framed(packet, link)
        out += struct.pack(f"{order}IIII", 1_764_057_600 + number, 5, len(octets), len(octets)) + octets
    return out


def pcapng(packets: list[bytes], *, link: int = 1, order: str = "<") -> bytes:
    def block(kind: int, body: bytes) -> bytes:
        padded = body + bytes(-len(body) % 4)
        length = 12 + len(padded)
        return struct.pack(f"{order}II", kind, length) + padded + struct.pack(f"{order}I", length)

    out = block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    options = struct.pack(f"{order}HHB3xHH", 9, 1, 3, 0, 0)  # ticks of a millisecond
    out += block(1, struct.pack(f"{order}HHI", link, 0, 0) + options)
    out += block(99, b"what nobody knows")
    for number, packet in enumerate(packets):
        octets = framed(packet, link)
        ticks = 1_764_057_600_000 + number
        head = struct.pack(f"{order}IIIII", 0, ticks >> 32, ticks & 0xFFFFFFFF, len(octets), len(octets))
        out += block(6, head + octets)
    return out

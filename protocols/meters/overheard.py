"""What others say on a bus, heard without a word of our own: frames of Modbus RTU and HDLC, who asks whom; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from protocols.dlms.framing import hdlc
from protocols.dlms.framing.hdlc import Frame as HdlcFrame
from protocols.dlms.framing.hdlc import FrameDecoder
from protocols.modbus.client.failure import EXCEPTIONS
from protocols.modbus.framing.hunt import MAX_FRAME, Frame, as_request, frame_at
from protocols.modbus.framing.requests import Request

ANSWER_IN = 3.0
"""Seconds in which an answer belongs to the question before it."""
MAX_TALKERS = 512
"""Stations that are counted; those of noise that looks like frames must not fill the memory."""
_U_NAMES = {
    hdlc.SNRM: "SNRM",
    hdlc.UA: "UA",
    hdlc.DISC: "DISC",
    hdlc.DM: "DM",
    hdlc.FRMR: "FRMR",
    hdlc.UI: "UI",
    hdlc.RR: "RR",
    hdlc.RNR: "RNR",
    hdlc.REJ: "REJ",
    0: "I frame",
}

Describe = Callable[[int, int, Sequence[int]], Sequence[tuple[int, str, str]]]
"""Given function, first address and words: where in them what stands, its name and value."""


class Way(StrEnum):
    """What a frame was."""

    ASKED = "asked"
    ANSWERED = "answered"
    REFUSED = "refused"
    NOISE = "noise"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One frame, or octets of none. `station` is `unit 5` or `HDLC 1/17`, "" for noise; `at` is as it was fed."""

    at: float
    station: str
    way: Way
    text: str


@dataclass(slots=True, kw_only=True)
class Talk:
    """What was heard of one station; latencies in seconds, `unanswered` questions of others than the last."""

    asked: int = 0
    answered: int = 0
    refused: int = 0
    fastest: float | None = None
    slowest: float | None = None
    _since: float | None = None

    @property
    def unanswered(self) -> int:
        """Questions that drew nothing."""
        waiting = 1 if self._since is not None else 0
        return max(self.asked - self.answered - self.refused - waiting, 0)

    def note(self, way: Way, at: float) -> None:
        """Count a frame."""
        if way is Way.ASKED:
            self.asked, self._since = self.asked + 1, at
            return
        self.answered += way is Way.ANSWERED
        self.refused += way is Way.REFUSED
        if self._since is not None and at - self._since <= ANSWER_IN:
            took = at - self._since
            self.fastest = took if self.fastest is None else min(self.fastest, took)
            self.slowest = took if self.slowest is None else max(self.slowest, took)
        self._since = None


@dataclass
class Overheard:
    """Octets in, what was said out. `talks` counts by station, `noise` the octets of no frame."""

    describe: Describe | None = None
    talks: dict[str, Talk] = field(default_factory=dict)
    noise: int = 0
    _buffer: bytearray = field(default_factory=bytearray)
    _looked: int = 0
    """Octets at the head of the buffer at which no frame begins, whatever comes behind them."""
    _asked: dict[int, Request] = field(default_factory=dict)

    def feed(self, octets: bytes, at: float) -> list[Said]:
        """Take octets that came at this time; return what they complete."""
        self._buffer += octets
        return self._look(at, silent=len(self._buffer) > 4 * MAX_FRAME)

    def silence(self, at: float) -> list[Said]:
        """Give up what was begun: the line is silent."""
        return self._look(at, silent=True)

    def _look(self, now: float, *, silent: bool) -> list[Said]:
        buffer, found, at, begins = self._buffer, list[Said](), self._looked, 0
        while at < len(buffer):
            said, size = self._frame(at, now)
            if said is not None:
                found += self._noise(begins, at, now)
                found.append(said)
                at += size
                begins = at
            elif size < 0 and not silent:
                break
            else:
                at += 1
        if silent:
            found += self._noise(begins, len(buffer), now)
            at = begins = len(buffer)
        del buffer[:begins]
        self._looked = at - begins
        return found

    def _frame(self, at: int, now: float) -> tuple[Said | None, int]:
        """Return what stands here and its octets; (None, -1) while a frame may yet, (None, 0) where none does."""
        buffer = self._buffer
        waits = False
        if buffer[at] == hdlc.FLAG:
            told = hdlc.told_octets(buffer, at + 1)
            size = 0 if told is None else told + 2
            if told is None or (told and len(buffer) - at < size):
                waits = True
            elif told and buffer[at + size - 1] == hdlc.FLAG:
                frames = FrameDecoder().receive_data(bytes(buffer[at : at + size]))
                if len(frames) == 1 and isinstance(frame := frames[0], HdlcFrame):
                    return self._hdlc(frame, now), size - 1  # its last flag may be the next one's first
        modbus, octets = frame_at(buffer, at)
        if modbus is not None:
            return self._modbus(modbus, now), octets
        return None, -1 if waits or octets < 0 else 0

    def _noise(self, begins: int, end: int, now: float) -> list[Said]:
        octets = bytes(self._buffer[begins:end]).strip(bytes((hdlc.FLAG,)))
        self.noise += len(octets)
        if not octets:
            return []
        text = octets[:24].hex(" ") + (" …" if len(octets) > 24 else "")
        return [Said(at=now, station="", way=Way.NOISE, text=f"{len(octets)} octets of no frame: {text}")]

    def _modbus(self, frame: Frame, now: float) -> Said:
        station, pdu = f"unit {frame.unit}", frame.pdu
        if pdu[0] & 0x80:
            code = pdu[1]
            return self._note(
                now, station, Way.REFUSED, f"exception {code}, {EXCEPTIONS.get(code, 'not known')}"
            )
        if frame.request:
            asked = as_request(frame)
            if asked is None:
                return self._note(now, station, Way.ASKED, f"function {pdu[0]}")
            if len(self._asked) < MAX_TALKERS or frame.unit in self._asked:
                self._asked[frame.unit] = asked
            text = f"function {asked.function}, {asked.count} from {asked.address} ({asked.address:#06x})"
            return self._note(now, station, Way.ASKED, text)
        return self._note(
            now, station, Way.ANSWERED, self._registers(frame, self._asked.pop(frame.unit, None))
        )

    def _registers(self, frame: Frame, asked: Request | None) -> str:
        pdu = frame.pdu
        if pdu[0] not in (3, 4):
            return f"function {pdu[0]}: {pdu[1:].hex(' ')}"
        words = [int.from_bytes(pdu[i : i + 2], "big") for i in range(2, len(pdu) - 1, 2)]
        plain = f"{len(words)} registers: " + " ".join(f"{word:04x}" for word in words)
        if self.describe is None or asked is None or asked.function != pdu[0]:
            return plain
        named = [f"{name} {value}" for _, name, value in self.describe(pdu[0], asked.address, words)]
        return "; ".join(named) or plain

    def _hdlc(self, frame: HdlcFrame, now: float) -> Said:
        # Clients have one octet, servers one, two or four: where both have one, requests are told by their kind.
        asks = frame.destination.lower is not None or frame.kind in (hdlc.SNRM, hdlc.DISC)
        server, client = (frame.destination, frame.source) if asks else (frame.source, frame.destination)
        name = _U_NAMES.get(frame.kind, f"control {frame.control:02x}")
        text = f"{name}, client {client.upper}" + (f", {len(frame.info)} octets" if frame.info else "")
        way = Way.ASKED if asks else Way.REFUSED if frame.kind in (hdlc.DM, hdlc.FRMR) else Way.ANSWERED
        return self._note(now, f"HDLC {server}", way, text)

    def _note(self, at: float, station: str, way: Way, text: str) -> Said:
        if station in self.talks or len(self.talks) < MAX_TALKERS:
            self.talks.setdefault(station, Talk()).note(way, at)
        return Said(at=at, station=station, way=way, text=text)

"""Hides what a trace would give away: passwords, old and new, and challenges and answers of HLS with a secret of ours.

Challenge and answer of mechanisms 2, 3, 4 and 6 together let anybody try passwords at leisure, and many HLS keys are
texts. Those of GMAC and ECDSA (5, 7) are made with keys, and stay.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from protocols.dlms.apdu import gbt
from protocols.dlms.framing import wrapper
from protocols.dlms.framing.gateway import MAX_ADDRESS, REQUEST, RESPONSE
from protocols.dlms.framing.hdlc import FLAG, FORMAT_TYPE, SEGMENTED, crc, without_llc

MASK = 0x2A
"""`*`: what stands in place of each octet of a secret."""
GUESSABLE = frozenset((1, 2, 3, 4, 6))
"""Mechanisms whose secret is a text that could be guessed: LLS, and HLS but for GMAC and ECDSA."""
MAX_HELD = 4096
"""Octets of an answer that are held back until it is whole: more are no AARE and no HLS answer."""
_SHORTEST = 7
"""Octets that an HDLC frame counts at least: what counts fewer is none, and reading it would come to no end."""
_REACH = 40
"""Octets that may lie between the mechanism's name and the secret, and that are kept of a segment before."""
_WINDOW = 7
"""Segments remembered: as many as may be sent again, by number and content."""
_BLOCKS = 2 * gbt.MAX_WINDOW
"""Blocks of general block transfer whose beginning is remembered: as many as may be sent again, and some."""
_NAME = rb"[\x60\x85]\x85\x74\x05\x08\x02"
_LENGTH = rb"([\x00-\x7f]|\x81.)"
_AARQ = re.compile(rb"\x8b." + _NAME + rb"(.).{0,16}?\xac(?:[\x00-\x7f]|\x81.)\x80" + _LENGTH, re.DOTALL)
"""Mechanism name, then calling-authentication-value (AC) with a string (80) and its length."""
_AARE = re.compile(rb"()\xaa(?:[\x00-\x7f]|\x81.)\x80" + _LENGTH, re.DOTALL)
"""responding-authentication-value (AA): fields may be in any order, and the AARQ named the mechanism."""
_PASS_3 = re.compile(rb"\xc3\x01.\x00\x0f.{6}\x01\x01()\x09" + _LENGTH, re.DOTALL)
"""reply_to_HLS_authentication (class 15, method 1; some meters have it elsewhere, see `hls_object`)."""
_NEW_SECRET = re.compile(
    rb"(?:\xc1\x01.\x00\x0f.{6}\x07\x00|\xc3\x01.\x00\x0f.{6}\x02\x01)()[\x09\x0a]" + _LENGTH, re.DOTALL
)
"""A new password (class 15, attribute 7) or HLS secret (method 2), where it is not enciphered."""
_PASS_4 = re.compile(rb"\xc7\x01.\x00\x01\x00()\x09" + _LENGTH, re.DOTALL)


@dataclass(slots=True)
class _Authentication:
    """What the two directions of one conversation know of each other; mechanism -1 is not known."""

    mechanism: int = -1
    proving: bool = False

    @property
    def hidden(self) -> bool:
        return self.mechanism < 0 or self.mechanism in GUESSABLE


class PasswordMask:
    """Called with what a client sends, in order; returns the same octets with secrets as `*`.

    HDLC frames keep a right check sequence, and a secret that is split over segments, or over blocks of general block
    transfer, is masked in each. Whole frames are expected, as a client sends them; in other octets a secret is masked
    where it is seen whole.
    """

    _patterns: Sequence[re.Pattern[bytes]] = (_AARQ, _PASS_3, _NEW_SECRET)

    def __init__(self, shared: _Authentication | None = None) -> None:
        self._shared = shared or _Authentication()
        self._before = b""
        self._left = 0
        self._seen: dict[tuple[int, bytes], bytes] = {}
        self._within = False
        self._head: bytes | None = b""
        self._block: _BlockHead | None = None
        self._begins: dict[int, tuple[bytes, int]] = {}
        self._carries = False
        self._hid = False
        self.begun = False
        """Whether the last piece ended an APDU without a secret that begins something: no later block, no empty one."""

    def __call__(self, octets: bytes) -> bytes:
        """Mask one piece; the result has as many octets."""
        self.begun = False
        out = bytearray(octets)
        at = 0
        while at < len(out):
            found = _frame(out, at)
            if found is None:
                begin, end = _wrapped(out, at)
                self._within = False
                out[begin:end] = self._piece(bytes(out[begin:end]), first=True, last=True)
                at = end
                continue
            start, end, info, segmented = found
            if info < end - 2:
                text = bytes(out[info : end - 2])
                hidden = self._frame_text(out[info - 3], text, segmented=segmented)
                if hidden != text:
                    out[info : end - 2] = hidden
                    out[end - 2 : end] = crc(bytes(out[start : end - 2]))
            at = end
        return bytes(out)

    def _frame_text(self, control: int, text: bytes, *, segmented: bool) -> bytes:
        if control & 1:  # no I frame; what connects or disconnects begins anew
            self._forget()
            self._begins.clear()
            self._seen.clear()
            return text
        key = (control & 0x0E, text)
        if key in self._seen:  # sent again
            return self._seen[key]
        hidden = self._piece(text, first=not self._within, last=not segmented)
        self._within = segmented
        self._seen[key] = hidden
        while len(self._seen) > _WINDOW:
            del self._seen[next(iter(self._seen))]
        return hidden

    def _forget(self) -> None:
        self._before, self._left = b"", 0
        self._within = False

    def _piece(self, text: bytes, *, first: bool, last: bool) -> bytes:
        """Mask a piece of an APDU: of a block of general block transfer what it carries, of all others everything."""
        if first:
            self._before, self._left = b"", 0
            self._head, self._block, self._carries, self._hid = b"", None, False, False
        start = 0
        if self._head is not None:
            before = self._head
            found = _block_head(before + text)
            if found is None:  # what stands before the APDU is in pieces itself
                self._head = before + text
                return text
            self._head, self._before = None, before[-_REACH:]
            if found.octets:
                self._block, start = found, max(found.octets - len(before), 0)
                self._before, self._left = self._begins.get(found.number, (b"", 0))
        hidden = text[:start] + self._text(text[start:])
        self._carries = self._carries or start < len(text)
        self._hid = self._hid or hidden != text
        self._before = (self._before + text[start:])[-_REACH:]
        if last and self._block is not None:
            self._begins[self._block.number + 1] = (self._before, self._left)
            while len(self._begins) > _BLOCKS:
                del self._begins[next(iter(self._begins))]
        if last:
            self._before, self._left = b"", 0
            begins = self._block is None or (self._block.number == 1 and self._carries)
            self.begun = begins and not self._hid
        return hidden

    def _text(self, text: bytes) -> bytes:
        out = bytearray(text)
        covered = min(self._left, len(out))
        out[:covered] = bytes((MASK,)) * covered
        self._left -= covered
        for pattern in self._patterns:
            self._hide(pattern, text, out)
        return bytes(out)

    def _hide(self, pattern: re.Pattern[bytes], text: bytes, out: bytearray) -> None:
        before = len(self._before)
        for found in pattern.finditer(self._before + text):
            start = found.end() - before
            if start < 0 or not self._concerns(pattern, found[1]):
                continue  # masked with the segment before, or nothing to hide
            length = found[2][-1]
            inside = max(0, min(length, len(out) - start))
            out[start : start + inside] = bytes((MASK,)) * inside
            self._left = length - inside

    def _concerns(self, pattern: re.Pattern[bytes], mechanism: bytes) -> bool:
        """Say whether what a pattern found is to be hidden, and remember what the other direction must know."""
        shared = self._shared
        if pattern is _NEW_SECRET:
            return True
        if mechanism:
            shared.mechanism = mechanism[0]
        if pattern is _PASS_3:
            shared.proving = True
        if pattern is _PASS_4 and not shared.proving:
            return False
        return shared.hidden


class _AnswerMask(PasswordMask):
    """The same for what a meter sends: its challenge, and its answer to ours."""

    _patterns = (_AARE, _PASS_4)


class ConversationMask:
    """Both directions of one line: each piece is masked with what the other direction has shown.

    While an answer may hold a challenge it is held back until its frames are whole, so that they keep a right check
    sequence; `rest` gives what never became whole.
    """

    def __init__(self) -> None:
        self._shared = _Authentication()
        self._sent = PasswordMask(self._shared)
        self._received = _AnswerMask(self._shared)
        self._held = b""
        self._waiting = False

    def sent(self, octets: bytes) -> bytes:
        """Mask one piece that is sent."""
        hidden = self._sent(octets)
        if hidden != octets:
            self._waiting = True
        elif self._sent.begun:
            self._waiting = self._shared.proving = False
        return hidden

    def received(self, octets: bytes) -> bytes:
        """Mask what came; b"" while it is held back."""
        if not self._waiting:
            return octets
        self._held += octets
        if not _whole(self._held) and len(self._held) <= MAX_HELD:
            return b""
        return self.rest()

    def rest(self) -> bytes:
        """Return what is held back, masked as far as it can be read."""
        held, self._held = self._held, b""
        return self._received(held) if held else b""


@dataclass(frozen=True, slots=True)
class _BlockHead:
    """The head of a block: its number, and how many octets stand before its data; 0 for an APDU that is no block."""

    number: int = 0
    octets: int = 0


def _block_head(octets: bytes) -> _BlockHead | None:
    """Return the head at the beginning of an APDU; None where more octets have to tell whether it is a block.

    LLC header and gateway prefix may stand before it.
    """
    rest = without_llc(octets)
    if rest[:1] and rest[0] in (REQUEST, RESPONSE) and (len(rest) < 3 or rest[2] <= MAX_ADDRESS):
        rest = rest[3 + rest[2] :] if len(rest) > 2 else b""
    if not rest:
        return None
    if rest[0] != gbt.TAG:
        return _BlockHead()
    length = 1 if len(rest) < 7 or rest[6] < 0x80 else 1 + (rest[6] & 0x7F)
    if len(rest) < 6 + length:
        return None
    return _BlockHead(int.from_bytes(rest[2:4], "big"), len(octets) - len(rest) + 6 + length)


def _wrapped(octets: bytearray, at: int) -> tuple[int, int]:
    """Return where the APDU of a wrapper's frame at `at` begins and ends; all octets where there is none."""
    end = at + wrapper.HEADER_OCTETS
    if octets[at : at + 2] != wrapper.VERSION.to_bytes(2, "big") or len(octets) < end:
        return at, len(octets)
    return end, min(end + int.from_bytes(octets[at + 6 : at + 8], "big"), len(octets))


def _whole(octets: bytes) -> bool:
    """Say whether octets end with a frame: HDLC's closing flag, or a wrapper's length; what is neither is whole."""
    if octets[:1] == b"\0":
        return _whole_in_wrapper(octets)
    # a frame may share the flag before it
    at = 0 if octets and octets[0] & 0xF0 == FORMAT_TYPE else octets.find(FLAG)
    if at < 0:
        return True
    data, frames = bytearray(octets), 0
    while at < len(data):
        found = _frame(data, at)
        if found is None:
            return False
        if found[0] == found[1]:  # flags only
            return frames > 0
        at, frames = found[1], frames + 1
    return False


def _whole_in_wrapper(octets: bytes) -> bool:
    at = 0
    while octets[at : at + 2] == wrapper.VERSION.to_bytes(2, "big"):
        at += wrapper.HEADER_OCTETS + int.from_bytes(octets[at + 6 : at + 8], "big")
        if at >= len(octets):
            return at == len(octets)
    return at == 0 and octets[:2] != b"\0"


def _frame(octets: bytearray, at: int) -> tuple[int, int, int, bool] | None:
    """Return the HDLC frame at `at`: its start, its end, where its information begins, segmented or not."""
    while at < len(octets) and octets[at] == FLAG:
        at += 1
    if len(octets) - at < 9 or octets[at] & 0xF0 != FORMAT_TYPE:
        return None if at < len(octets) else (at, at, at, False)
    length = (octets[at] & 7) << 8 | octets[at + 1]
    end = at + length
    if end > len(octets) or length < _SHORTEST:
        return None
    info = at + 2
    for _ in range(2):  # destination and source end with an odd octet
        while info < end and not octets[info] & 1:
            info += 1
        info += 1
    return at, end, min(info + 3, end), bool(octets[at] & SEGMENTED)

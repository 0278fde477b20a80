"""Hides the password that an LLS association sends in clear, so that a trace can be given away."""

from __future__ import annotations

import re

from protocols.dlms.framing.hdlc import FLAG, FORMAT_TYPE, SEGMENTED, crc

MASK = 0x2A
"""`*`: what stands in place of each octet of a password."""
_REACH = 40
"""Octets that may lie between the mechanism's name and the password, and that are kept of a segment before."""
_WINDOW = 7
"""Segments remembered: as many as may be sent again, by number and content."""
_PASSWORD = re.compile(
    rb"\x8b.\x60\x85\x74\x05\x08\x02\x01.{0,16}?\xac(?:[\x00-\x7f]|\x81.)\x80([\x00-\x7f]|\x81.)", re.DOTALL
)
"""Mechanism name LLS, then calling-authentication-value (AC) with a string (80) and its length."""


class PasswordMask:
    """Called with what goes one way over a line, in order; returns the same octets with passwords as `*`.

    HDLC frames keep a right check sequence, and a password that is split over segments is masked in each.
    Whole frames are expected, as a client sends them; in other octets a password is masked where it is seen
    whole.
    """

    def __init__(self) -> None:
        self._before = b""
        self._left = 0
        self._seen: dict[tuple[int, bytes], bytes] = {}

    def __call__(self, octets: bytes) -> bytes:
        """Mask one piece; the result has as many octets."""
        out = bytearray(octets)
        at = 0
        while at < len(out):
            found = _frame(out, at)
            if found is None:
                self._forget()
                out[at:] = self._text(bytes(out[at:]))
                self._forget()
                break
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
            self._seen.clear()
            return text
        key = (control & 0x0E, text)
        if key in self._seen:  # sent again
            return self._seen[key]
        hidden = self._text(text)
        self._before = (self._before + text)[-_REACH:] if segmented else b""
        self._left = self._left if segmented else 0
        self._seen[key] = hidden
        while len(self._seen) > _WINDOW:
            del self._seen[next(iter(self._seen))]
        return hidden

    def _forget(self) -> None:
        self._before, self._left = b"", 0

    def _text(self, text: bytes) -> bytes:
        out = bytearray(text)
        covered = min(self._left, len(out))
        out[:covered] = bytes((MASK,)) * covered
        self._left -= covered
        before = len(self._before)
        for found in _PASSWORD.finditer(self._before + text):
            start = found.end() - before
            if start < 0:
                continue  # masked with the segment before
            length = found[1][-1]
            inside = max(0, min(length, len(out) - start))
            out[start : start + inside] = bytes((MASK,)) * inside
            self._left = length - inside
        return bytes(out)


def _frame(octets: bytearray, at: int) -> tuple[int, int, int, bool] | None:
    """Return the HDLC frame at `at`: its start, its end, where its information begins, segmented or not."""
    while at < len(octets) and octets[at] == FLAG:
        at += 1
    if len(octets) - at < 9 or octets[at] & 0xF0 != FORMAT_TYPE:
        return None if at < len(octets) else (at, at, at, False)
    end = at + ((octets[at] & 7) << 8 | octets[at + 1])
    if end > len(octets):
        return None
    info = at + 2
    for _ in range(2):  # destination and source end with an odd octet
        while info < end and not octets[info] & 1:
            info += 1
        info += 1
    return at, end, min(info + 3, end), bool(octets[at] & SEGMENTED)

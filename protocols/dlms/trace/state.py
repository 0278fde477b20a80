"""What is known while a conversation's trace is read: keys, titles, challenges, blocks not yet joined."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from protocols.dlms.data.cursor import MAX_OCTETS
from protocols.dlms.security.ciphered_forms import PLAIN_TAGS
from protocols.dlms.trace.mask import GUESSABLE, MASK
from protocols.dlms.trace.tree import Listener, TraceCursor
from protocols.errors import MeterError, ProtocolError

if TYPE_CHECKING:
    from protocols.dlms.security.suites import Keys
    from protocols.dlms.trace.pairs import TracePairs

FROM_CLIENT = (0x01, 0x60, 0x62, 0xC0, 0xC1, 0xC3)
"""Tags of the plain APDUs that clients send."""
MAX_JOINED = 64
"""Values that are being joined at the same time."""


@dataclass(slots=True)
class JoinedBlocks:
    """Blocks so far; `places` has as many entries as `data` unless blocks came ciphered."""

    data: bytearray = field(default_factory=bytearray)
    places: list[int] = field(default_factory=list)
    first: int = 1
    number: int = -1


@dataclass(slots=True)
class TraceState:
    """State of one conversation. `way` tells directions apart where the framing does; `secret` is that of HLS."""

    keys: Keys | None = None
    titles: tuple[bytes, ...] = ()
    secret: bytes | None = field(default=None, repr=False)
    dedicated: bytes = field(default=b"", repr=False)
    pairs: TracePairs | None = None
    client: bytes = b""
    meter: bytes = b""
    mechanism: int = 0
    client_challenge: bytes = b""
    meter_challenge: bytes = b""
    proving: bool = False
    get_list: bool = False
    way: tuple[object, ...] = ()
    joined: dict[tuple[object, ...], JoinedBlocks] = field(default_factory=dict)

    @property
    def guessable(self) -> bool:
        """Say whether challenge and answer would let anybody try passwords."""
        return self.mechanism in GUESSABLE

    def begin_association(self) -> None:
        """Forget what the association before agreed: an AARQ follows."""
        self.mechanism, self.client_challenge, self.meter_challenge = 0, b"", b""
        self.dedicated = b""

    def candidates(self, tag: int) -> list[bytes]:
        """Return the system titles that may have ciphered an APDU with this tag, likeliest first."""
        plain = PLAIN_TAGS.get(tag)
        seen = (self.client, self.meter) if plain in FROM_CLIENT else (self.meter, self.client)
        return list(dict.fromkeys(t for t in (seen[0], *self.titles, seen[1]) if t))

    def key_for(self, *, dedicated: bool) -> Keys | None:
        """Return the keys that open an APDU; the dedicated key comes from an initiate-request or the caller."""
        if self.keys is None or not dedicated:
            return self.keys
        if not self.dedicated:
            return None
        if len(self.dedicated) != len(self.keys.encryption):
            return None
        return replace(self.keys, encryption=self.dedicated)

    def block(self, what: str, cursor: TraceCursor, raw: bytes, number: int) -> bool:
        """Add block `number`, which was read last; False, and noted, when it cannot be joined.

        The first number is 1 by the Green Book, 0 on some meters. A block that is sent again is left out.
        """
        key = (*self.way, what)
        joined = self.joined.get(key)
        begins = number == 0 or (number == 1 and (joined is None or joined.first == 1 or joined.number > 1))
        if begins:
            if len(self.joined) >= MAX_JOINED:
                self.joined.clear()
            joined = self.joined[key] = JoinedBlocks(first=number)
        elif joined is not None and number == joined.number:
            cursor.note("sent again")
            return False
        if joined is None or (not begins and number != joined.number + 1):
            self.joined.pop(key, None)
            cursor.note(f"block {number - 1} is not in the trace: not joined")
            return False
        if len(joined.data) + len(raw) > MAX_OCTETS:
            raise cursor.error(f"blocks of more than {MAX_OCTETS} octets without an end")
        joined.number = number
        joined.data += raw
        joined.places += [] if cursor.space else cursor.places[cursor.offset - len(raw) : cursor.offset]
        return True

    def whole(self, what: str, cursor: TraceCursor, listener: Listener) -> TraceCursor:
        """Return all blocks joined as a cursor, and forget them."""
        joined = self.joined.pop((*self.way, what), JoinedBlocks())
        data = bytes(joined.data)
        placed = len(joined.places) == len(data)  # not so when blocks came ciphered
        places = joined.places if placed else range(len(data))
        return TraceCursor(data, places, cursor.node, listener, "" if placed else "joined")

    def proof(self, answer: bytes, *, by_client: bool) -> str:
        """Return `right`, `wrong` or why an answer to an HLS challenge is not checked."""
        from protocols.dlms.security import hls  # the ciphers are imported where a proof is to be checked
        from protocols.session import Auth

        client = hls.Party(title=self.client, challenge=self.client_challenge)
        meter = hls.Party(title=self.meter, challenge=self.meter_challenge)
        prover, verifier = (client, meter) if by_client else (meter, client)
        auth = next((a for a, number in hls.MECHANISMS.items() if number == self.mechanism), Auth.NONE)
        if _masked(verifier.challenge) or _masked(answer):
            return "not checked: masked in the trace"
        if not verifier.challenge or auth not in hls.HLS:
            return "not checked: the challenge is not in the trace"
        if auth is Auth.HLS_ECDSA:
            if self.pairs is None:
                return "not checked: the prover's certificate is not given"
            return self.pairs.checked(hls.signed_text(prover, verifier), answer)
        if (self.keys if auth is Auth.HLS_GMAC else self.secret) is None:
            return "not checked: its key is not given"
        keys = self.keys
        if keys is not None and auth is Auth.HLS_GMAC and answer[:1] == b"\x11":
            keys = replace(keys, suite=1)
        proof = hls.Credentials(auth=auth, secret=self.secret or b"", keys=keys)
        try:
            hls.check(proof, answer, prover=prover, verifier=verifier)
        except MeterError:
            return "wrong"
        except (ProtocolError, ValueError):
            return "not checked: the key does not fit the mechanism"
        return "right"


def _masked(octets: bytes) -> bool:
    """Say whether a trace has `*` in the place of octets."""
    return bool(octets) and not octets.strip(bytes((MASK,)))

"""What a served meter is to the server: its associations and its attributes. The simulator implements it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data
from protocols.dlms.security.curves import NO_KEYS, NO_PEER, OwnKeys, PeerKeys
from protocols.session import Auth, Protection

READ_WRITE_DENIED = 3
OBJECT_UNDEFINED = 4
TEMPORARY_FAILURE = 2
TYPE_UNMATCHED = 12
OTHER_REASON = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class AssociationPolicy:
    """What one client address must show, and may do.

    `secret` is the LLS password or the HLS secret; both keys are as long as `suite` has them. Ciphering is at
    least what `protection` says. A `pre_established` association stands without AARQ. `own` are the meter's
    private keys, `peer` the client's public ones; `master_key` opens keys that come wrapped.
    """

    auth: Auth
    ciphered: bool = False
    protection: Protection = Protection.AUTHENTICATED_ENCRYPTED
    secret: bytes | None = field(default=None, repr=False)
    encryption_key: bytes | None = field(default=None, repr=False)
    authentication_key: bytes | None = field(default=None, repr=False)
    suite: int = 0
    own: OwnKeys = NO_KEYS
    peer: PeerKeys = NO_PEER
    master_key: bytes | None = field(default=None, repr=False)
    may_write: bool = False
    pre_established: bool = False


class AccessDenied(Exception):
    """The model refuses a request; `code` is the data-access-result (Green Book 9.5)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"data-access-result {code}")
        self.code = code


class CosemModel(Protocol):
    """A meter as the server sees it. Methods are quick and synchronous; AccessDenied refuses."""

    @property
    def system_title(self) -> bytes:
        """Eight octets, FLAG letters first."""

    def associations(self) -> Mapping[int, AssociationPolicy]:
        """Policies by client address."""

    def get(self, client: int, target: Target) -> Data:
        """Return an attribute's value, of a profile's buffer the rows selected."""

    def set(self, client: int, target: Target, value: Data) -> None:
        """Write an attribute."""

    def action(self, client: int, target: Target, parameter: Data | None) -> Data | None:
        """Run a method; returns what it returns."""

    def frame_counter(self, client: int) -> int:
        """Last invocation counter received in the association of `client`, as 0.0.43.1.x.255 shows it."""

    def note_frame_counter(self, client: int, value: int) -> None:
        """Raise that counter."""

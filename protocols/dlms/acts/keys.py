"""What changes a meter's keys: key transfer of the security setup, secrets of associations, and what proves a master.

Nothing here decides when: whoever calls has put the new keys where they cannot be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from protocols.dlms import objects
from protocols.dlms.companion import Companion
from protocols.dlms.objects import KeyKind
from protocols.dlms.objects.interface import Access
from protocols.dlms.security.ciphered_forms import KEY_OCTETS
from protocols.errors import AssociationLost, MeterConfigError, MeterRefused, NotSupported
from protocols.reading import Obis
from protocols.session import Auth, DlmsSettings, Protection

CURRENT_ASSOCIATION, CURRENT_SETUP = Obis(0, 0, 40, 0, 0), Obis(0, 0, 43, 0, 0)
"""The association that one is in, and its security setup (Blue Book 6.2.33, 6.2.34)."""
MAX_PASSWORD, MAX_HLS_SECRET = 16, 64


class KeySlot(StrEnum):
    """Which key of an association it is; `secret` is its password or HLS secret, `master` the meter's."""

    ENCRYPTION = "encryption"
    AUTHENTICATION = "authentication"
    BROADCAST = "broadcast"
    SECRET = "secret"  # noqa: S105  # the name of a kind of key
    MASTER = "master"


KIND_OF: Mapping[KeySlot, KeyKind] = {
    KeySlot.ENCRYPTION: KeyKind.GLOBAL_UNICAST_ENCRYPTION,
    KeySlot.BROADCAST: KeyKind.GLOBAL_BROADCAST_ENCRYPTION,
    KeySlot.AUTHENTICATION: KeyKind.AUTHENTICATION,
    KeySlot.MASTER: KeyKind.MASTER,
}
"""The key id of key transfer; a secret has none, since it goes another way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPlaces:
    """The objects that take the keys of one client's association: the association itself, and its security setup."""

    association: Obis
    security_setup: Obis


def key_places(companion: Companion, client: int, acting: int) -> KeyPlaces:
    """Return where the keys of `client` are changed in an association of the client `acting`.

    MeterConfigError where the companion does not name the objects of another client: the current ones are those of
    `acting`, which would be given the keys in its place.
    """
    own = client == acting
    known = companion.associations.get(client)
    association = known.association_object if known is not None else CURRENT_ASSOCIATION if own else None
    setup = None if known is None else known.security_setup
    setup = CURRENT_SETUP if setup is None and own else setup
    if association is None or setup is None:
        raise MeterConfigError(
            f"the companion {companion.name} does not say which objects take the keys of client {client}"
            f" from client {acting}: change them as client {client} itself"
        )
    return KeyPlaces(association=association, security_setup=setup)


def key_changer(companion: Companion) -> int | None:
    """Return the client that may change the keys of all; None where the companion names none."""
    return next((one.client for one in companion.associations.values() if one.changes_keys), None)


async def transfer(exchange: Access, places: KeyPlaces, master: bytes, keys: Mapping[KeySlot, bytes]) -> None:
    """Bring new keys to a security setup, wrapped under `master` (class 64 method 2).

    Raises what the exchange raises; MeterConfigError for a key of a wrong length.
    """
    setup = objects.SecuritySetup(places.security_setup, exchange)
    await setup.transfer_keys(master, {KIND_OF[slot]: key for slot, key in keys.items()})


async def change_secret(exchange: Access, places: KeyPlaces, auth: Auth, secret: bytes) -> None:
    """Set the password (class 15 attribute 7) or the HLS secret (method 2) of an association.

    It goes as it is, under the ciphering of the association that the exchange is in. Raises what the exchange
    raises; MeterConfigError for a length that cannot be.
    """
    association = objects.AssociationLN(places.association, exchange)
    check_secret(auth, secret)
    if auth is Auth.LLS:
        await association.secret.set(secret)
    else:
        await association.change_HLS_secret.run(secret)


async def is_master(exchange: Access, places: KeyPlaces, master: bytes) -> bool:
    """Say whether the meter holds this master key: it takes it once more, wrapped under itself, or does not.

    A meter that holds it changes nothing by that, whatever the answer's fate. Errors of the line are raised.
    """
    try:
        await transfer(exchange, places, master, {KeySlot.MASTER: master})
    except AssociationLost:
        raise
    except (MeterRefused, NotSupported):
        return False
    return True


def check_secret(auth: Auth, secret: bytes) -> None:
    """Raise MeterConfigError where a password or HLS secret has a length that its mechanism cannot have."""
    most = KEY_OCTETS if auth is Auth.HLS2 else MAX_PASSWORD if auth is Auth.LLS else MAX_HLS_SECRET
    if not 1 <= len(secret) <= most:
        raise MeterConfigError(f"a secret of {auth} has 1 to {most} octets, not {len(secret)}")


def proves(settings: DlmsSettings, slot: KeySlot) -> bool:
    """Say whether an association with these settings that stands proves the key in a slot."""
    if slot is KeySlot.SECRET:
        return settings.auth.needs_secret
    if slot in (KeySlot.ENCRYPTION, KeySlot.AUTHENTICATION):
        tagged = settings.ciphered and settings.protection is not Protection.ENCRYPTED
        return settings.auth is Auth.HLS_GMAC or (tagged and not settings.accept_plain)
    return False

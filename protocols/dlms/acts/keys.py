"""What changes a meter's keys: key transfer of the security setup, secrets of associations, and what proves a master.

Nothing here decides when: whoever calls has put the new keys where they cannot be lost.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from protocols.dlms import objects
from protocols.dlms.companion import companion
from protocols.dlms.objects import KeyKind
from protocols.dlms.objects.interface import Access
from protocols.dlms.security.ciphered_forms import KEY_OCTETS
from protocols.errors import AssociationLost, MeterConfigError, MeterRefused, NotSupported
from protocols.reading import Obis
from protocols.session import Auth, DlmsSettings, Protection

UTILITY_CLIENT = 48
"""The client of IS 15959 that may change keys; other clients only read, or load firmware."""
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


def security_setup(client: int) -> Obis:
    """Name the security setup of a client's association: 0.0.43.0.2 to .5 (IS 15959), 0.0.43.0.0 elsewhere."""
    own = association_object(client)
    return Obis(0, 0, 43, 0, own.e)


def association_object(client: int) -> Obis:
    """Name the association object of a client: 0.0.40.0.2, .3, .5 (IS 15959), or the current one."""
    known = companion().associations.get(client)
    return Obis(0, 0, 40, 0, 0) if known is None else known.association_object


async def transfer(exchange: Access, client: int, master: bytes, keys: Mapping[KeySlot, bytes]) -> None:
    """Bring new keys to the security setup of `client`, wrapped under `master` (class 64 method 2).

    Raises what the exchange raises; MeterConfigError for a key of a wrong length.
    """
    setup = objects.SecuritySetup(security_setup(client), exchange)
    await setup.transfer_keys(master, {KIND_OF[slot]: key for slot, key in keys.items()})


async def change_secret(exchange: Access, client: int, auth: Auth, secret: bytes) -> None:
    """Set the password (class 15 attribute 7) or the HLS secret (method 2) of the association of `client`.

    It goes as it is, under the ciphering of the association that the exchange is in. Raises what the exchange
    raises; MeterConfigError for a length that cannot be.
    """
    association = objects.AssociationLN(association_object(client), exchange)
    check_secret(auth, secret)
    if auth is Auth.LLS:
        await association.secret.set(secret)
    else:
        await association.change_HLS_secret.run(secret)


async def is_master(exchange: Access, client: int, master: bytes) -> bool:
    """Say whether the meter holds this master key: it takes it once more, wrapped under itself, or does not.

    A meter that holds it changes nothing by that, whatever the answer's fate. Errors of the line are raised.
    """
    try:
        await transfer(exchange, client, master, {KeySlot.MASTER: master})
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

"""Which keys of which configured meter are to be changed, and why some cannot be."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.config.file import Config
from gateway.config.meters import MeterSection
from gateway.edge.keys.store import SLOTS_OF
from gateway.errors import UsageError
from protocols.dlms.acts import keys as acts
from protocols.dlms.acts.keys import KeyPlaces, KeySlot, key_changer, key_places
from protocols.dlms.companion import Companion, companion
from protocols.errors import MeterConfigError
from protocols.session import DlmsSettings, Protection


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which keys of which meter are to be changed: `what` is a name of SLOTS_OF, `client` whose association it is."""

    section: MeterSection
    client: int
    what: str

    @property
    def settings(self) -> DlmsSettings:
        """How to associate as the client whose keys these are."""
        return self.section.associations()[self.client]

    @property
    def acting(self) -> DlmsSettings:
        """How to associate as the client that may change them: the companion's, or whose keys they are."""
        changer = key_changer(self.companion)
        return self.settings if changer is None else self.section.associations().get(changer, self.settings)

    @property
    def companion(self) -> Companion:
        """What the meter's standard declares."""
        return companion(self.settings.companion)

    @property
    def places(self) -> KeyPlaces:
        """The objects that take the keys; MeterConfigError where the companion does not name them."""
        return key_places(self.companion, self.client, self.acting.client)

    def ref(self, slot: KeySlot) -> str | None:
        """Return the reference of the first key in a slot."""
        keys = self.section.keys
        match slot:
            case KeySlot.MASTER:
                return None if keys is None else keys.master_key_ref
            case KeySlot.BROADCAST:
                return None if keys is None else keys.broadcast_key_ref
            case KeySlot.SECRET:
                return self.settings.password_ref
            case KeySlot.ENCRYPTION:
                return self.settings.encryption_key_ref
        return self.settings.authentication_key_ref


def wanted(config: Config, meter: str, client: int | None, what: str) -> Wanted:
    """Return what is to be changed; UsageError says why it cannot be: no such meter, client, key or proof."""
    section = next((one for one in config.meters if one.meter == meter), None)
    if section is None:
        raise UsageError(f"there is no meter `{meter}` in the configuration")
    known = section.associations()
    if not known:
        raise UsageError(f"{meter} is no DLMS meter: it has no keys to change")
    one = Wanted(section=section, client=next(iter(known)) if client is None else client, what=what)
    if one.client not in known:
        raise UsageError(
            f"{meter} has no association of client {one.client} in the configuration"
            f" ({', '.join(map(str, known))}): add it to [[meters.keys.associations]]"
        )
    if why := _unfit(one):
        raise UsageError(f"{meter}: {why}")
    return one


def _unfit(one: Wanted) -> str | None:
    settings = one.settings
    try:
        _ = one.places
    except MeterConfigError as error:
        return str(error)
    if one.what == "secret":
        acting = one.acting
        if not settings.auth.needs_secret:
            return f"client {one.client} associates with {settings.auth}, which has no secret to change"
        if not acting.ciphered or acting.protection is Protection.AUTHENTICATED:
            return (
                "a new secret would cross the line in clear: name a ciphered association that may change it"
                f"{_changing(one)} in [[meters.keys.associations]]"
            )
    if one.what == "global":
        refs = (settings.encryption_key_ref, settings.authentication_key_ref)
        if None in refs:
            return f"client {one.client} has no encryption and authentication key"
        if refs[0] == refs[1]:
            return "its encryption and authentication key have one reference: give each a file of its own"
        if not all(acts.proves(settings, slot) for slot in SLOTS_OF["global"]):
            return (
                f"an association of client {one.client} proves no key (it is not ciphered with tags, or takes plain"
                " answers), so nobody could know which keys the meter holds"
            )
    return None


def _changing(one: Wanted) -> str:
    changer = key_changer(one.companion)
    return "" if changer is None else f" (client {changer})"

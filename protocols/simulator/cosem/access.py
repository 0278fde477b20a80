"""The associations of a simulated Indian meter: who may what, counters, secrets, security setups and their keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from protocols.dlms.apdu import acse
from protocols.dlms.apdu.conformance import BUILT
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    double_long_unsigned,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.objects.object_list import (
    NO_ACCESS,
    READ_ONLY,
    READ_WRITE,
    WRITE_ONLY,
    ObjectEntry,
    build_object_list,
)
from protocols.dlms.security import hls
from protocols.dlms.security.ciphered_forms import KEY_OCTETS
from protocols.dlms.security.curves import CURVES, PrivateKey
from protocols.dlms.security.key_use import KeyUse
from protocols.dlms.security.key_wrap import unwrap_key
from protocols.dlms.server.model import OTHER_REASON, TYPE_UNMATCHED, AccessDenied, AssociationPolicy
from protocols.errors import MeterConfigError, SecurityFailure
from protocols.reading import Obis
from protocols.session import Auth
from protocols.simulator.cosem.certificates import CertificateStore
from protocols.simulator.cosem.objects import Reader, Served, constant, data_object, live

PUBLIC, READER, UTILITY, PUSH, FIRMWARE, DISPLAY = 16, 32, 48, 64, 80, 96
CLIENTS = (PUBLIC, READER, UTILITY, PUSH, FIRMWARE, DISPLAY)
CURRENT_ASSOCIATION = Obis(0, 0, 40, 0, 0)
SAP_ASSIGNMENT, LOGICAL_DEVICE = Obis(0, 0, 41, 0, 0), Obis(0, 0, 42, 0, 0)
CURRENT_SECURITY = Obis(0, 0, 43, 0, 0)
MAX_SECRET = 64
_LLS_CHANGED, _HLS_CHANGED, _FIRMWARE_HLS_CHANGED, _KEYS_CHANGED = 161, 162, 163, 164
_UNICAST, _BROADCAST, _AUTHENTICATION, _MASTER = 0, 1, 2, 3
"""Key ids of global_key_transfer; broadcast keys are kept, and nothing is sent under them."""
_CONTEXT = bytes.fromhex("608574050801")
_MECHANISM = bytes.fromhex("608574050802")
_SECURED = (READER, UTILITY, PUSH, FIRMWARE)
_POLICY_BOTH, _POLICY_NONE = 3, 0
_MAX_PDU = 1024


def association_object(client: int) -> Obis:
    """Name the association object of a client address: 0.0.40.0.1 to .6."""
    return Obis(0, 0, 40, 0, CLIENTS.index(client) + 1)


def counter_object(client: int) -> Obis:
    """Name the invocation counter object of a client address: 0.0.43.1.1 to .6."""
    return Obis(0, 0, 43, 1, CLIENTS.index(client) + 1)


class AccessObjects:
    """Holds policies and counters, and builds the objects that show and change them.

    A new key or secret holds from the next association on. `note` is called with the event code of each change.
    """

    def __init__(
        self,
        policies: Mapping[int, AssociationPolicy],
        *,
        system_title: bytes,
        device_name: bytes,
        master_key: bytes | None,
        note: Callable[[int], None],
    ) -> None:
        self.policies = dict(policies)
        self._master = master_key
        self._title = system_title
        self._note = note
        self._counters: dict[int, int] = {}
        self.broadcast: dict[int, bytes] = {}
        self.objects: dict[Obis, Served] = {
            LOGICAL_DEVICE: data_object(partial(octets, device_name)),
            SAP_ASSIGNMENT: Served(
                17, {2: constant(array(structure(long_unsigned(1), octets(device_name))))}
            ),
        }
        for client in CLIENTS:
            self.objects[counter_object(client)] = data_object(partial(self._counter, client))
            self.objects[association_object(client)] = self._association(client)
        for client in _SECURED:
            self.objects[security_setup(client)] = self._security(client)

    def frame_counter(self, client: int) -> int:
        """Return the last invocation counter received in the association of `client`."""
        return self._counters.get(client, 0)

    def note_frame_counter(self, client: int, value: int) -> None:
        """Raise that counter; it never falls."""
        self._counters[client] = max(self.frame_counter(client), value)

    def _counter(self, client: int) -> Data:
        return double_long_unsigned(self.frame_counter(client))

    # association objects

    def _association(self, client: int) -> Served:
        """Return an association object without its object list, which depends on all objects (see `object_list`)."""
        write, methods = {}, {}
        if client == READER:
            write[7] = self._set_password
        if client in (UTILITY, FIRMWARE):
            methods[2] = partial(self._change_hls, client)
        return Served(
            15,
            {
                3: constant(structure(integer(client), long_unsigned(1))),
                4: live(partial(self._context, client)),
                5: live(partial(self._xdlms, client)),
                6: live(partial(self._mechanism, client)),
                8: constant(enum(2)),
                9: constant(octets(security_setup(client).to_bytes())),
            },
            write,
            methods,
            version=1,
        )

    def _policy(self, client: int) -> AssociationPolicy:
        return self.policies.get(client, AssociationPolicy(auth=Auth.NONE))

    def _context(self, client: int) -> Data:
        ciphered = self._policy(client).ciphered
        return octets(_CONTEXT + bytes((acse.CONTEXT_CIPHERED if ciphered else acse.CONTEXT_PLAIN,)))

    def _mechanism(self, client: int) -> Data:
        return octets(_MECHANISM + bytes((hls.MECHANISMS[self._policy(client).auth],)))

    def _xdlms(self, client: int) -> Data:
        services = f"{int(BUILT):024b}"
        title = self._title if self._policy(client).ciphered else b""
        return structure(
            Data(Tag.BIT_STRING, services),
            long_unsigned(_MAX_PDU),
            long_unsigned(_MAX_PDU),
            unsigned(6),
            integer(0),
            octets(title),
        )

    def _set_password(self, value: Data) -> None:
        self._replace_secret(READER, value)
        self._note(_LLS_CHANGED)

    def _change_hls(self, client: int, parameter: Data | None) -> None:
        if parameter is None:
            raise AccessDenied(TYPE_UNMATCHED)
        given = parameter.octets
        if self._master is not None and given is not None and len(given) == len(self._master) + 8:
            parameter = octets(self._unwrapped(given))
        self._replace_secret(client, parameter)
        self._note(_HLS_CHANGED if client == UTILITY else _FIRMWARE_HLS_CHANGED)

    def _replace_secret(self, client: int, value: Data) -> None:
        if value.octets is None or not 1 <= len(value.octets) <= MAX_SECRET or client not in self.policies:
            raise AccessDenied(TYPE_UNMATCHED)
        hls2 = self._policy(client).auth is Auth.HLS2
        if hls2 and len(value.octets) > KEY_OCTETS:
            raise AccessDenied(TYPE_UNMATCHED)
        self.policies[client] = replace(self._policy(client), secret=value.octets)

    # security setups

    def _security(self, client: int) -> Served:
        suite = self._policy(client).suite
        if suite not in CURVES:
            return Served(64, self._security_read(client), {}, {2: partial(self._transfer, client)})
        own = self._policy(client).own
        pairs = {KeyUse.SIGNING: own.signing, KeyUse.AGREEMENT: own.agreement}
        store = CertificateStore(
            self._title, {use: key for use, key in pairs.items() if key}, partial(self._adopt, client)
        )
        read = self._security_read(client) | {6: live(store.listed)}
        return Served(64, read, {}, {2: partial(self._transfer, client), **store.methods(suite)}, version=1)

    def _adopt(self, client: int, use: KeyUse, key: PrivateKey) -> None:
        """Use a new key pair from the next association on."""
        own = self._policy(client).own
        if use is KeyUse.TLS:
            return
        new = replace(own, signing=key) if use is KeyUse.SIGNING else replace(own, agreement=key)
        self.policies[client] = replace(self._policy(client), own=new)

    def _security_read(self, client: int) -> dict[int, Reader]:
        return {
            2: live(lambda: enum(_POLICY_BOTH if self._policy(client).ciphered else _POLICY_NONE)),
            3: live(lambda: enum(self._policy(client).suite)),
            4: constant(octets(b"")),
            5: constant(octets(self._title)),
        }

    def _transfer(self, client: int, parameter: Data | None) -> None:
        """Take new global keys, wrapped under the master key: all of them or none (Blue Book 4.4.7 m2)."""
        policy = self.policies.get(client)
        if policy is None or parameter is None or parameter.tag is not Tag.ARRAY or not parameter.items:
            raise AccessDenied(TYPE_UNMATCHED)
        master, broadcast = self._master, self.broadcast.get(client)
        for entry in parameter.items:
            match entry.items:
                case (Data(Tag.ENUM, int() as name), Data(Tag.OCTET_STRING, bytes() as wrapped)):
                    key = self._unwrapped(wrapped)
                case _:
                    raise AccessDenied(TYPE_UNMATCHED)
            if name == _UNICAST:
                policy = replace(policy, encryption_key=key)
            elif name == _AUTHENTICATION:
                policy = replace(policy, authentication_key=key)
            elif name == _MASTER:
                master = key
            elif name == _BROADCAST:
                broadcast = key
            else:
                raise AccessDenied(OTHER_REASON)
        self.policies[client] = policy
        self._master = master
        if broadcast is not None:
            self.broadcast[client] = broadcast
        self._note(_KEYS_CHANGED)

    def _unwrapped(self, wrapped: bytes) -> bytes:
        if self._master is None:
            raise AccessDenied(OTHER_REASON)
        try:
            return unwrap_key(self._master, wrapped)
        except (SecurityFailure, MeterConfigError):
            raise AccessDenied(OTHER_REASON) from None


def security_setup(client: int) -> Obis:
    """Name the security setup that an association uses: 0.0.43.0.2 to .5, or the common one."""
    return Obis(0, 0, 43, 0, CLIENTS.index(client) + 1) if client in _SECURED else CURRENT_SECURITY


def object_list(objects: Mapping[Obis, Served], *, may_write: bool) -> Data:
    """Return attribute 2 of the association object: class, version, name and rights of each object."""
    return build_object_list(_listed(obis, served, may_write) for obis, served in sorted(objects.items()))


def _listed(obis: Obis, served: Served, may_write: bool) -> ObjectEntry:
    return ObjectEntry(
        class_id=served.class_id,
        version=served.version,
        obis=obis,
        attributes={
            n: _mode(n == 1 or n in served.read, may_write and n in served.write)
            for n in sorted({1, *served.read, *served.write})
        },
        methods={n: int(may_write) for n in sorted(served.methods)},
        selectors={2: (1, 2)} if served.class_id == 7 else {},
    )


def _mode(read: bool, write: bool) -> int:
    if write:
        return READ_WRITE if read else WRITE_ONLY
    return READ_ONLY if read else NO_ACCESS

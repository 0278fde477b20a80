"""A household's meter as COSEM: associations, rights and dispatch of an Indian smart meter."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from protocols.clock import NowSource
from protocols.dlms.apdu.lists import Target
from protocols.dlms.data.types import Data
from protocols.dlms.server.model import OBJECT_UNDEFINED, READ_WRITE_DENIED, AccessDenied, AssociationPolicy
from protocols.reading import Obis, ProfileName
from protocols.simulator.cosem.access import (
    CLIENTS,
    CURRENT_ASSOCIATION,
    DISPLAY,
    FIRMWARE,
    LOGICAL_DEVICE,
    PUBLIC,
    PUSH,
    READER,
    SAP_ASSIGNMENT,
    UTILITY,
    AccessObjects,
    association_object,
    counter_object,
    object_list,
    security_setup,
)
from protocols.simulator.cosem.control import CLOCK_OBIS, MESSAGES, ControlObjects
from protocols.simulator.cosem.image import IMAGE_SCHEDULE, IMAGE_TRANSFER, ImageTarget
from protocols.simulator.cosem.meter import Build, MeterObjects
from protocols.simulator.cosem.objects import Memory, Served, logical_name
from protocols.simulator.cosem.push import PushObjects
from protocols.simulator.household.events import TRANSACTION_LOG
from protocols.simulator.household.household import Household

__all__ = [
    "CURRENT_ASSOCIATION",
    "DISPLAY",
    "FIRMWARE",
    "OBJECT_CLASS_INCONSISTENT",
    "PUBLIC",
    "PUSH",
    "READER",
    "UTILITY",
    "HouseholdModel",
    "system_title",
]

OBJECT_CLASS_INCONSISTENT = 9
_IDENTITY = (Obis(0, 0, 96, 1, 0), Obis(0, 0, 96, 1, 1), Obis(0, 0, 96, 1, 2))
_FIRMWARE_VERSION = Obis(1, 0, 0, 2, 0)
_HARDWARE = (Obis(0, 0, 94, 91, 9), Obis(0, 0, 94, 91, 11), Obis(0, 0, 94, 91, 12))
"""Type, category and current rating: whom an image is for."""
_ASSOCIATION_CLASS = 15


def system_title(manufacturer: str, serial: str) -> bytes:
    """Return the eight octets: three FLAG letters, then the serial's digits as a number (Green Book 9.2)."""
    digits = "".join(c for c in serial if c in "0123456789") or "0"
    return manufacturer.encode("ascii")[:3].ljust(3) + (int(digits) % (1 << 40)).to_bytes(5, "big")


class HouseholdModel:
    """Implements `CosemModel` for a household. Its objects are built at the first request.

    `policies` says what each client address must show; a client that is not in it cannot associate. The public
    client sees the clock, the invocation counters and the identity only; the reader reads; the utility also
    writes and runs methods; the firmware client, push and the display see their own few objects. `master_key`
    opens keys that are transferred. `on_push` is called with the name of the push setup when a push is ordered.
    """

    def __init__(
        self,
        household: Household,
        clock: NowSource,
        policies: Mapping[int, AssociationPolicy],
        *,
        build: Build | None = None,
        master_key: bytes | None = None,
    ) -> None:
        self.household = household
        self.build = build or Build()
        self.keep_history = False
        self.on_push: Callable[[Obis], None] | None = None
        self._clock = clock
        self._memory = Memory()
        self.image = ImageTarget(household.manufacturer, self.build.firmware, clock, self._memory, self._log)
        self._access = AccessObjects(
            policies,
            system_title=self.system_title,
            device_name=f"{household.manufacturer}{household.serial}".encode()[:16],
            master_key=master_key,
            note=self._log,
        )
        self._meter: MeterObjects | None = None
        self._objects: dict[Obis, Served] = {}

    @property
    def system_title(self) -> bytes:
        """Eight octets, FLAG letters first."""
        return system_title(self.household.manufacturer, self.household.serial)

    @property
    def powered(self) -> bool:
        """Say whether the meter has supply and answers."""
        return self.household.state(self._clock.now()).powered

    def associations(self) -> Mapping[int, AssociationPolicy]:
        """Policies by client address, with the keys and secrets that hold now."""
        return self._access.policies

    def get(self, client: int, target: Target) -> Data:
        """Return an attribute's value; AccessDenied when there is none or the client may not see it."""
        policy = self._policy(client)
        self.image.tick()
        obis = self._own_association(client) if target.obis == CURRENT_ASSOCIATION else target.obis
        served = self._object(client, target.class_id, obis)
        if target.index == 1:
            return logical_name(obis)
        if target.class_id == _ASSOCIATION_CLASS and target.index == 2:
            return object_list(self._visible_objects(client), may_write=policy.may_write)
        read = served.read.get(target.index)
        if read is None:
            raise AccessDenied(READ_WRITE_DENIED)
        return read(target.selection)

    def set(self, client: int, target: Target, value: Data) -> None:
        """Write an attribute; only the utility may, and the firmware client its own."""
        policy = self._policy(client)
        served = self._object(client, target.class_id, target.obis)
        write = served.write.get(target.index)
        if write is None or not policy.may_write:
            raise AccessDenied(READ_WRITE_DENIED)
        write(value)
        self._built().writes += 1

    def action(self, client: int, target: Target, parameter: Data | None) -> Data | None:
        """Run a method; only the utility may, and the firmware client its own."""
        policy = self._policy(client)
        obis = self._own_association(client) if target.obis == CURRENT_ASSOCIATION else target.obis
        served = self._object(client, target.class_id, obis)
        run = served.methods.get(target.index)
        if run is None or not policy.may_write:
            raise AccessDenied(READ_WRITE_DENIED)
        return run(parameter)

    def frame_counter(self, client: int) -> int:
        """Return the last invocation counter received in the association of `client`."""
        return self._access.frame_counter(client)

    def note_frame_counter(self, client: int, value: int) -> None:
        """Raise that counter; it never falls."""
        self._access.note_frame_counter(client, value)

    # objects and rights

    def _built(self) -> MeterObjects:
        if self._meter is None:
            home, clock, build, memory = self.household, self._clock, self.build, self._memory
            self._meter = MeterObjects(
                home, clock, build, memory, lambda: self.keep_history, lambda: self.image.version
            )
            control = ControlObjects(home, clock, build, memory, self._meter)
            push = PushObjects(home, clock, build, memory, self._order_push)
            self._objects = {
                **self._meter.objects,
                **control.objects,
                **push.objects,
                **self._access.objects,
                IMAGE_TRANSFER: self.image.served(),
            }
        return self._meter

    def _order_push(self, setup: Obis) -> None:
        if self.on_push is not None:
            self.on_push(setup)

    def _log(self, code: int) -> None:
        self.household.log_event(TRANSACTION_LOG, code, self._clock.now())

    def _policy(self, client: int) -> AssociationPolicy:
        policy = self._access.policies.get(client)
        if policy is None:
            raise AccessDenied(READ_WRITE_DENIED)
        return policy

    def _own_association(self, client: int) -> Obis:
        return association_object(client) if client in CLIENTS else CURRENT_ASSOCIATION

    def _object(self, client: int, class_id: int, obis: Obis) -> Served:
        self._built()
        served = self._objects.get(obis)
        if not self._may_see(client, obis):
            raise AccessDenied(OBJECT_UNDEFINED if served is None else READ_WRITE_DENIED)
        if served is None:
            raise AccessDenied(OBJECT_UNDEFINED)
        if served.class_id != class_id:
            raise AccessDenied(OBJECT_CLASS_INCONSISTENT)
        return served

    def _visible_objects(self, client: int) -> dict[Obis, Served]:
        seen = {o: s for o, s in self._objects.items() if self._may_see(client, o)}
        seen[CURRENT_ASSOCIATION] = self._objects[self._own_association(client)]
        return seen

    def _may_see(self, client: int, obis: Obis) -> bool:
        """Say whether a client's association lists an object."""
        if client in (READER, UTILITY):
            foreign = client == READER and obis.c == 40 and obis != association_object(client)
            return not foreign
        if obis in _COMMON or obis == self._own_association(client):
            return True
        if client == FIRMWARE:
            own = (IMAGE_TRANSFER, IMAGE_SCHEDULE, security_setup(FIRMWARE))
            return obis in own or obis == _FIRMWARE_VERSION or obis in _HARDWARE
        if client == PUSH:
            return (obis.c, obis.d) == (25, 9)
        if client == DISPLAY:
            instantaneous = self.build.kind.profiles[ProfileName.INSTANTANEOUS]
            return obis in (*MESSAGES, instantaneous.obis, instantaneous.scaler_profile) or obis.c == 94
        return False


_COMMON = frozenset(
    (
        CLOCK_OBIS,
        CURRENT_ASSOCIATION,
        LOGICAL_DEVICE,
        SAP_ASSIGNMENT,
        *_IDENTITY,
        *(counter_object(client) for client in CLIENTS),
    )
)
"""What every association may read."""

"""A household's meter as COSEM: associations, rights and dispatch of an Indian single-phase prepaid meter."""

from __future__ import annotations

from collections.abc import Mapping

from protocols.dlms.companion import companion
from protocols.dlms.model import (
    OBJECT_UNDEFINED,
    READ_WRITE_DENIED,
    AccessDenied,
    AssociationPolicy,
    EntrySelection,
    RangeSelection,
)
from protocols.dlms.types import Data, double_long_unsigned, octets
from protocols.reading import Obis
from protocols.simulator.cosem_meter import CLOCK_OBIS, MeterObjects, NowSource, object_list
from protocols.simulator.cosem_objects import Served, data_object, logical_name
from protocols.simulator.household import Household
from protocols.simulator.push_setups import push_setups

PUBLIC, READER, UTILITY = 16, 32, 48
CURRENT_ASSOCIATION = Obis(0, 0, 40, 0, 0)
OBJECT_CLASS_INCONSISTENT = 9
_IDENTITY = (Obis(0, 0, 96, 1, 0), Obis(0, 0, 96, 1, 1), Obis(0, 0, 96, 1, 2))


def system_title(manufacturer: str, serial: str) -> bytes:
    """Give the eight octets: three FLAG letters, then the serial's digits as a number (Green Book 9.2)."""
    digits = "".join(c for c in serial if c in "0123456789") or "0"
    return manufacturer.encode("ascii")[:3].ljust(3) + (int(digits) % (1 << 40)).to_bytes(5, "big")


class HouseholdModel:
    """Implements `CosemModel`.

    `policies` says what each client address must show; a client that is not in it cannot associate.
    Public clients see the clock, the invocation counters and the identity only. `older_prepayment` puts
    the money at `.91.` codes, as meters on HDLC do; `numbered_events` adds the sequence number to the logs.
    """

    def __init__(
        self,
        household: Household,
        clock: NowSource,
        policies: Mapping[int, AssociationPolicy],
        *,
        older_prepayment: bool = False,
        numbered_events: bool = False,
        firmware: str = "SIM-1.4.2",
        year: int = 2025,
    ) -> None:
        self.household = household
        self._clock = clock
        self._policies = dict(policies)
        self._meter = MeterObjects(
            household,
            clock,
            older_prepayment=older_prepayment,
            numbered_events=numbered_events,
            firmware=firmware,
            year=year,
        )
        self._objects = self._meter.objects
        self._objects.update(push_setups())
        self._counters: dict[int, int] = {}
        counters = []
        for client, info in companion().associations.items():
            self._objects[info.counter] = self._counter_object(client)
            counters.append(info.counter)
        self._public = frozenset((CLOCK_OBIS, CURRENT_ASSOCIATION, *_IDENTITY, *counters))

    @property
    def system_title(self) -> bytes:
        """Eight octets, FLAG letters first."""
        return system_title(self.household.manufacturer, self.household.serial)

    @property
    def powered(self) -> bool:
        """Say whether the meter has supply and answers."""
        return self.household.state(self._clock.now()).powered

    def associations(self) -> Mapping[int, AssociationPolicy]:
        """Policies by client address."""
        return self._policies

    def get(
        self,
        client: int,
        class_id: int,
        obis: Obis,
        attribute: int,
        selection: RangeSelection | EntrySelection | None,
    ) -> Data:
        """Give an attribute's value; AccessDenied when there is none or the client may not see it."""
        policy = self._policy(client)
        if obis == CURRENT_ASSOCIATION and class_id == 15:
            return self._association(client, policy, attribute)
        served = self._object(client, class_id, obis)
        if attribute == 1:
            return logical_name(obis)
        read = served.read.get(attribute)
        if read is None:
            raise AccessDenied(READ_WRITE_DENIED)
        return read(selection)

    def set(self, client: int, class_id: int, obis: Obis, attribute: int, value: Data) -> None:
        """Write an attribute; only the utility may."""
        policy = self._policy(client)
        served = self._object(client, class_id, obis)
        write = served.write.get(attribute)
        if write is None or not policy.may_write:
            raise AccessDenied(READ_WRITE_DENIED)
        write(value)
        self._meter.wrote()

    def action(
        self, client: int, class_id: int, obis: Obis, method: int, parameter: Data | None
    ) -> Data | None:
        """Run a method; only the utility may."""
        policy = self._policy(client)
        served = self._object(client, class_id, obis)
        run = served.methods.get(method)
        if run is None or not policy.may_write:
            raise AccessDenied(READ_WRITE_DENIED)
        return run(parameter)

    def frame_counter(self, client: int) -> int:
        """Last invocation counter received in the association of `client`."""
        return self._counters.get(client, 0)

    def note_frame_counter(self, client: int, value: int) -> None:
        """Raise that counter; it never falls."""
        self._counters[client] = max(self.frame_counter(client), value)

    def _policy(self, client: int) -> AssociationPolicy:
        policy = self._policies.get(client)
        if policy is None:
            raise AccessDenied(READ_WRITE_DENIED)
        return policy

    def _object(self, client: int, class_id: int, obis: Obis) -> Served:
        if client == PUBLIC and obis not in self._public:
            raise AccessDenied(READ_WRITE_DENIED if obis in self._objects else OBJECT_UNDEFINED)
        served = self._objects.get(obis)
        if served is None:
            raise AccessDenied(OBJECT_UNDEFINED)
        if served.class_id != class_id:
            raise AccessDenied(OBJECT_CLASS_INCONSISTENT)
        return served

    def _counter_object(self, client: int) -> Served:
        return data_object(lambda: double_long_unsigned(self.frame_counter(client)))

    def _association(self, client: int, policy: AssociationPolicy, attribute: int) -> Data:
        if attribute == 1:
            return octets(CURRENT_ASSOCIATION.to_bytes())
        if attribute != 2:
            raise AccessDenied(READ_WRITE_DENIED)
        seen = {o: s for o, s in self._objects.items() if client != PUBLIC or o in self._public}
        return object_list(seen, may_write=policy.may_write)

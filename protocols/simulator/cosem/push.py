"""Alerts and push of a simulated Indian meter: event status word and filter, push setups, push scripts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial

from protocols.clock import NowSource
from protocols.dlms.companion import PushSetupInfo, companion
from protocols.dlms.data.types import (
    Data,
    Tag,
    array,
    enum,
    integer,
    long_unsigned,
    octets,
    structure,
    unsigned,
)
from protocols.dlms.server.model import TYPE_UNMATCHED, AccessDenied
from protocols.reading import Obis
from protocols.simulator.cosem.control import CLOCK_OBIS, PUSH_SCRIPTS
from protocols.simulator.cosem.meter import Build
from protocols.simulator.cosem.objects import Memory, Served, constant, live
from protocols.simulator.household.events import TRANSACTION_LOG
from protocols.simulator.household.household import Household

DEVICE_ID = Obis(0, 0, 96, 1, 2)
ESW_SPAN = timedelta(hours=1)
"""How long an event stays set in the status word: the bit says that it happened, not that it lasts."""
BIT_OF_CODE: Mapping[int, int] = {
    1: 0, 3: 1, 5: 2, 7: 3, 9: 4, 11: 5, 51: 6, 53: 7, 55: 8, 63: 9, 65: 10, 67: 11, 69: 51,
    201: 81, 203: 82, 251: 83, 301: 84, 302: 84, 101: 85, 102: 86, 166: 87,
}  # fmt: skip
"""Bit of the event status word that an event code sets."""
_ESWF_CHANGED = 165
_SETUPS = (
    Obis(0, 0, 25, 9, 0),
    Obis(0, 1, 25, 9, 0),
    Obis(0, 2, 25, 9, 0),
    Obis(0, 3, 25, 9, 0),
    Obis(0, 4, 25, 9, 0),
)
"""What push scripts 1 to 5 run."""


class PushObjects:
    """Builds these objects; `push` is called with the name of a setup whose push is ordered."""

    def __init__(
        self,
        household: Household,
        clock: NowSource,
        build: Build,
        memory: Memory,
        push: Callable[[Obis], None],
    ) -> None:
        self._home = household
        self._clock = clock
        self._build = build
        self._memory = memory
        self._push = push
        self.objects: dict[Obis, Served] = {}
        self._add_status_word()
        self._add_setups()

    def _add_status_word(self) -> None:
        esw = companion().esw
        if esw is None:
            return
        every = Data(Tag.BIT_STRING, "1" * esw.length)
        self.objects[esw.word] = Served(1, {2: live(partial(self._status_word, esw.filter, esw.length))})
        self.objects[esw.filter] = Served(
            1,
            {2: self._memory.reader(esw.filter, 2, every)},
            {2: self._memory.writer(esw.filter, 2, every, partial(self._filter_written, esw.length))},
        )

    def _filter_written(self, length: int, value: Data) -> None:
        if not isinstance(value.value, str) or len(value.value) != length:
            raise AccessDenied(TYPE_UNMATCHED)
        self._home.log_event(TRANSACTION_LOG, _ESWF_CHANGED, self._clock.now())

    def _status_word(self, filter_name: Obis, length: int) -> Data:
        now = self._clock.now()
        bits = ["0"] * length
        since = max(self._home.history_from, now - ESW_SPAN)
        for _, _, code in self._home.event_codes(since, now):
            if (bit := BIT_OF_CODE.get(code)) is not None:
                bits[bit] = "1"
        allowed = self._memory.get(filter_name, 2)
        if allowed is not None and isinstance(allowed.value, str):
            bits = [b if f == "1" else "0" for b, f in zip(bits, allowed.value, strict=True)]
        return Data(Tag.BIT_STRING, "".join(bits))

    # push

    def _add_setups(self) -> None:
        for setup in companion().push_setups.values():
            if setup.obis.e == 0:
                self.objects[setup.obis] = self._setup(setup)
        scripts = array(
            *(
                structure(
                    long_unsigned(number),
                    array(
                        structure(enum(2), long_unsigned(40), octets(o.to_bytes()), integer(1), integer(0))
                    ),
                )
                for number, o in enumerate(_SETUPS, 1)
            )
        )
        self.objects[PUSH_SCRIPTS] = Served(9, {2: constant(scripts)}, {}, {1: self._run_script})

    def _run_script(self, parameter: Data | None) -> None:
        number = None if parameter is None else parameter.integer
        if number is None or not 1 <= number <= len(_SETUPS):
            raise AccessDenied(TYPE_UNMATCHED)
        self._push(_SETUPS[number - 1])

    def _setup(self, setup: PushSetupInfo) -> Served:
        obis = setup.obis
        first = {
            2: self._object_list(setup),
            3: structure(enum(0), octets(b""), enum(0)),
            4: array(),
            5: long_unsigned(0),
            6: unsigned(3),
            7: long_unsigned(60),
        }
        memory = self._memory

        def run(_parameter: Data | None) -> None:
            self._push(obis)

        return Served(
            40,
            {n: memory.reader(obis, n, value) for n, value in first.items()},
            {n: memory.writer(obis, n, value) for n, value in first.items()},
            {1: run},
        )

    def _object_list(self, setup: PushSetupInfo) -> Data:
        """Say what a setup pushes: device id, its own name, clock, then its payload."""
        entries = [_entry(1, DEVICE_ID, 2), _entry(40, setup.obis, 1), _entry(8, CLOCK_OBIS, 2)]
        esw = companion().esw
        if setup.payload == "bits" and esw is not None:
            entries.append(_entry(1, esw.word, 2))
        elif setup.log is not None:
            entries.append(_entry(7, self._build.kind.event_logs[setup.log].obis, 2))
        elif setup.profile is not None and setup.profile in self._build.kind.profiles:
            entries.append(_entry(7, self._build.kind.profiles[setup.profile].obis, 2))
        elif setup.payload == "text":
            entries.append(_entry(1, Obis(0, 0, 96, 13, 0), 2))
        return array(*entries)


def _entry(class_id: int, obis: Obis, attribute: int) -> Data:
    return structure(long_unsigned(class_id), octets(obis.to_bytes()), integer(attribute), long_unsigned(0))

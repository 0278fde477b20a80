"""Faults inside the meter: a `CosemModel` with the same readings, answered in the odd ways of meters in the field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from protocols.dlms.apdu.fields import Selection
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import RangeSelection
from protocols.dlms.companion import companion
from protocols.dlms.data.types import Data, Tag, capture_object, double_long_unsigned, enum, octets
from protocols.dlms.server.model import OTHER_REASON, AccessDenied, AssociationPolicy, CosemModel
from protocols.reading import Obis
from protocols.simulator.cosem.image import ImageTarget
from protocols.simulator.faults import rows as fault_rows
from protocols.simulator.faults.image import FaultyImage
from protocols.simulator.faults.kinds import FaultKind
from protocols.simulator.faults.script import Fault, FaultPlayer

PROFILE_CLASS, DATA_CLASS, RELAY_CLASS, ASSOCIATION_CLASS, CLOCK_CLASS = 7, 1, 70, 15, 8
KEY_METHODS = frozenset({(64, 2), (15, 2)})
"""Class and method of key transfer, and of a new HLS secret."""
IMAGE_CLASS = 18
FIRMWARE = Obis(1, 0, 0, 2, 0)
BILLING_DATE = Obis(0, 0, 0, 1, 2)
_LIFO = 2
_SWAPPED = {
    Obis(0, 0, 94, group, what): Obis(0, 0, 94, group, other)
    for group in (96, 91)
    for pair in ((21, 22), (24, 25))
    for what, other in (pair, pair[::-1])
}
"""Amounts and dates of prepayment that stand in each other's place."""
_UNSET = Obis(0, 0, 128, 0, 1)
"""A code of a manufacturer's own, as extra columns have it."""


class FaultyModel:
    """Implements `CosemModel` over another one; `player` says what goes wrong."""

    def __init__(self, inner: CosemModel, player: FaultPlayer, image: ImageTarget | None = None) -> None:
        self._inner = inner
        self._image = None if image is None else FaultyImage(image, player)
        self._player = player
        self._counter_objects = {info.counter: client for client, info in companion().associations.items()}
        self._scalers = {i.scaler_profile for i in companion().profiles.values()} | {
            companion().event_scaler_profile
        }
        self._counters_after_reset: dict[int, int] | None = None
        self._update: Fault | None = None
        self._before_keys: Mapping[int, AssociationPolicy] | None = None
        self._old_keys_for = 0

    @property
    def system_title(self) -> bytes:
        """Eight octets, FLAG letters first."""
        return self._inner.system_title

    def associations(self) -> Mapping[int, AssociationPolicy]:
        """Policies by client address."""
        return self._inner.associations() if self._before_keys is None else self._before_keys

    def note_association(self) -> None:
        """Note an AARQ: faults that strike at the n-th association count these."""
        self._player.turn()
        if self._player.fires(FaultKind.COUNTER_RESET):
            self._counters_after_reset = {}
        self._update = self._player.fires(FaultKind.COLUMNS_CHANGED) or self._update
        if self._before_keys is not None:
            self._old_keys_for -= 1
            if self._old_keys_for < 0:
                self._before_keys = None

    def get(self, client: int, target: Target) -> Data:
        """Return an attribute's value, perhaps not as it should be."""
        self._player.turn()
        if target.obis in _SWAPPED and self._player.standing(FaultKind.SWAPPED_MONEY):
            target = replace(target, obis=_SWAPPED[target.obis])
        class_id, obis, attribute = target.class_id, target.obis, target.index
        if class_id == PROFILE_CLASS and attribute == 2:
            value = self._buffer(client, obis, target.selection)
        elif class_id == IMAGE_CLASS and self._image is not None:
            value = self._image.get(attribute, lambda: self._inner.get(client, target))
        else:
            if obis == FIRMWARE and self._image is not None:
                self._image.version()
            value = self._inner.get(client, target)
        match class_id, attribute:
            case 7, 3:
                value = self._captured(obis, value)
            case 7, 5 if self._player.standing(FaultKind.NEWEST_FIRST, str(obis)):
                value = enum(_LIFO)
            case 1, 2:
                value = self._plain_data(obis, value)
            case 15, 2 if self._player.standing(FaultKind.ODD_OBJECT_LIST):
                value = fault_rows.odd_object_list(value)
            case 4, 5 if self._player.standing(FaultKind.ZERO_DEMAND_TIME):
                value = octets(fault_rows.ZERO_DATE)
        return self._times(value)

    def set(self, client: int, target: Target, value: Data) -> None:
        """Write an attribute; a clock perhaps in a way of its own."""
        self._player.turn()
        if (target.class_id, target.index) == (CLOCK_CLASS, 2):
            if self._player.fires(FaultKind.CLOCK_STUCK):
                return
            value = self._clock_input(client, target, value)
        if target.class_id == ASSOCIATION_CLASS:
            self._change_keys(target)
        self._inner.set(client, target, value)

    def _clock_input(self, client: int, target: Target, value: Data) -> Data:
        player = self._player
        if fault := player.standing(FaultKind.CLOCK_SIGN):
            value = fault_rows.by_sign(value, fault.amount)
        if fault := player.fires(FaultKind.CLOCK_ADDS):
            value = fault_rows.moved(value, fault.amount)
        if fault := player.fires(FaultKind.CLOCK_SLOW):
            shown = self._inner.get(client, Target(CLOCK_CLASS, target.obis, 2))
            value = fault_rows.nearer(value, shown, fault.amount)
        return value

    def action(self, client: int, target: Target, parameter: Data | None) -> Data | None:
        """Run a method; a stuck relay says yes and does nothing."""
        self._player.turn()
        if target.class_id == RELAY_CLASS and self._player.fires(FaultKind.RELAY_STUCK):
            return None
        if (target.class_id, target.index) in KEY_METHODS:
            self._change_keys(target)
            if parameter is not None and self._player.fires(FaultKind.KEYS_PARTLY, str(target.obis)):
                parameter = Data(parameter.tag, parameter.items[:1]) if parameter.items else parameter
        if target.class_id == IMAGE_CLASS and self._image is not None:
            return self._image.run(target.index, lambda: self._inner.action(client, target, parameter))
        return self._inner.action(client, target, parameter)

    def _change_keys(self, target: Target) -> None:
        """Refuse a change of keys or secrets, or let it count later."""
        if fault := self._player.fires(FaultKind.KEYS_REFUSED, str(target.obis)):
            raise AccessDenied(fault.amount)
        if fault := self._player.fires(FaultKind.KEYS_LATE, str(target.obis)):
            self._before_keys = dict(self._inner.associations())
            self._old_keys_for = fault.amount

    def frame_counter(self, client: int) -> int:
        """Last invocation counter received in the association of `client`."""
        if self._counters_after_reset is not None:
            return self._counters_after_reset.get(client, 0)
        return self._inner.frame_counter(client)

    def note_frame_counter(self, client: int, value: int) -> None:
        """Raise that counter."""
        if self._counters_after_reset is not None:
            self._counters_after_reset[client] = max(self._counters_after_reset.get(client, 0), value)
        else:
            self._inner.note_frame_counter(client, value)

    # what the faults change

    def _plain_data(self, obis: Obis, value: Data) -> Data:
        client = self._counter_objects.get(obis)
        if client is not None and (fault := self._player.fires(FaultKind.COUNTER_LOW, str(obis))):
            return double_long_unsigned(max(0, self.frame_counter(client) - fault.amount))
        if client is not None and self._counters_after_reset is not None:
            return double_long_unsigned(self.frame_counter(client))
        if obis == FIRMWARE and self._player.standing(FaultKind.FLAG_TEXT):
            return octets(b"~" * 14)
        if obis == FIRMWARE and self._update is not None:
            return octets((value.octets or b"") + b"-U1")
        return value

    def _times(self, value: Data) -> Data:
        if fault := self._player.standing(FaultKind.DEVIATION):
            value = fault_rows.with_deviation(value, fault.amount)
        if self._player.standing(FaultKind.CLOCK_TYPE):
            value = fault_rows.as_date_time(value)
        return value

    def _captured_count(self, obis: Obis) -> int | None:
        """Return how many columns are captured, or None for all."""
        if obis in self._scalers:
            return None
        fault = self._player.standing(FaultKind.FEW_COLUMNS, str(obis))
        if fault is None and self._update is not None and self._update.on in ("", str(obis)):
            fault = self._update
        return None if fault is None else fault.amount

    def _captured(self, obis: Obis, value: Data) -> Data:
        if obis in self._scalers:
            fault = self._player.standing(FaultKind.NO_SCALERS)
            return Data(Tag.ARRAY, ()) if fault is not None and fault.amount else value
        items = value.items[: self._captured_count(obis)]
        if self._player.standing(FaultKind.OTHER_CLASS):
            items = tuple(fault_rows.reclassed(i, BILLING_DATE, 1) for i in items)
        if self._player.standing(FaultKind.ODD_CAPTURES, str(obis)):
            odd = (capture_object(DATA_CLASS, _UNSET, -1), capture_object(DATA_CLASS, _UNSET, 2, 3))
            items = (*odd, *reversed(items))
        return Data(Tag.ARRAY, items)

    def _buffer(self, client: int, obis: Obis, selection: Selection | None) -> Data:
        if obis in self._scalers:
            value = self._inner.get(client, Target(PROFILE_CLASS, obis))
            return Data(Tag.ARRAY, ()) if self._player.standing(FaultKind.NO_SCALERS) else value
        wanted = self._selection(obis, selection)
        whole = self._inner.get(client, Target(PROFILE_CLASS, obis, 2, wanted)).items
        rows = self._odd_rows(obis, whole, wanted)
        columns = tuple(self._inner.get(client, Target(PROFILE_CLASS, obis, 3)).items)
        if self._player.standing(FaultKind.ZERO_DEMAND_TIME):
            rows = [fault_rows.without_demand_time(r, columns) for r in rows]
        rows = self._fit_columns(obis, rows)
        period = self._inner.get(client, Target(PROFILE_CLASS, obis, 4)).integer or 0
        return self._encode_rows(obis, rows, period)

    def _selection(self, obis: Obis, selection: Selection | None) -> Selection | None:
        name = str(obis)
        if selection is None:
            return None
        if fault := self._player.standing(FaultKind.SELECTION_REFUSED, name):
            raise AccessDenied(fault.amount)
        if self._player.standing(FaultKind.SELECTION_IGNORED, name):
            return None
        if isinstance(selection, RangeSelection):
            uneven = any(t[6:8] != b"\0\0" for t in (selection.since, selection.until))
            if uneven and self._player.standing(FaultKind.RANGE_ON_HOUR, name):
                raise AccessDenied(OTHER_REASON)
        return selection

    def _odd_rows(self, obis: Obis, rows: Sequence[Data], selection: Selection | None) -> list[Data]:
        """Leave rows out and repeat others; what is cut off at the end comes last, as a full answer does it."""
        name = str(obis)
        chosen = list(rows)
        if isinstance(selection, RangeSelection) and self._player.standing(FaultKind.RANGE_EXCLUSIVE, name):
            chosen = [r for r in chosen if fault_rows.stamp_of(r) != fault_rows.wall(selection.since)]
        if fault := self._player.standing(FaultKind.MISSING_ROWS, name):
            chosen = [r for r in chosen if not fault_rows.strikes(r, fault.amount)]
        for kind, twin in ((FaultKind.DOUBLE_ROWS, False), (FaultKind.TWIN_ROWS, True)):
            if fault := self._player.standing(kind, name):
                chosen = fault_rows.doubled(chosen, fault.amount, twin=twin)
        if fault := self._player.standing(FaultKind.TRUNCATED, name):
            chosen = chosen[: fault.amount]
        return chosen

    def _fit_columns(self, obis: Obis, rows: list[Data]) -> list[Data]:
        """Fit the rows to the captured columns."""
        few = self._captured_count(obis)
        if few is not None:
            rows = [Data(r.tag, r.items[:few]) for r in rows]
        if self._player.standing(FaultKind.ODD_CAPTURES, str(obis)):
            odd = (Data(Tag.UNSIGNED, 7), Data(Tag.UNSIGNED, 9))
            rows = [Data(r.tag, (*odd, *reversed(r.items))) for r in rows]
        return rows

    def _encode_rows(self, obis: Obis, rows: list[Data], period: int) -> Data:
        """Write the rows: order first, since nulls stand for the row that goes before on the wire."""
        player, name = self._player, str(obis)
        if player.standing(FaultKind.NEWEST_FIRST, name):
            rows.reverse()
            period = -period
        if player.standing(FaultKind.UNSORTED, name):
            rows.sort(key=fault_rows.shuffle_key)
        if player.standing(FaultKind.DELTAS, name):
            rows = fault_rows.delta_columns(rows)
        if player.standing(FaultKind.NULL_COLUMNS, name):
            rows = fault_rows.null_columns(rows)
        if player.standing(FaultKind.NULL_TIMES, name):
            rows = fault_rows.null_times(rows, period)
        compact = player.standing(FaultKind.COMPACT, name) and rows and fault_rows.uniform(rows)
        return Data(Tag.COMPACT_ARRAY if compact else Tag.ARRAY, tuple(rows))

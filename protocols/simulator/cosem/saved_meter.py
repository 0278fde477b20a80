"""A meter served from a file that `explore` saved: the same objects, rights, values and refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from protocols.dlms.apdu.fields import Selection
from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection, RangeSelection
from protocols.dlms.data import axdr, cosem_time
from protocols.dlms.data.types import Data, Tag, boolean, enum, octets
from protocols.dlms.explore.saved_meter import SavedAttribute, SavedMeter, SavedObject
from protocols.dlms.objects import ObjectEntry, parse_object_list
from protocols.dlms.profile.layouts import CapturedColumn, parse_columns
from protocols.dlms.server.model import (
    OBJECT_UNDEFINED,
    OTHER_REASON,
    READ_WRITE_DENIED,
    TYPE_UNMATCHED,
    AccessDenied,
    AssociationPolicy,
)
from protocols.errors import MeterConfigError, MeterProtocolError
from protocols.reading import Obis
from protocols.session import Auth
from protocols.simulator.cosem.model import (
    CURRENT_ASSOCIATION,
    OBJECT_CLASS_INCONSISTENT,
    PUBLIC,
    system_title,
)

CLOCK = Obis(0, 0, 1, 0, 0)
RELAY = Obis(0, 0, 96, 3, 10)
_COUNTER = (0, 0, 43, 1)
_IDENTITY = tuple(Obis(0, 0, 96, 1, e) for e in (0, 1, 2))


class SavedMeterModel:
    """Implements `CosemModel` over a saved meter.

    It lets in the public client, which sees clock, identity and invocation counters only, and the client of
    the file with `secret` and keys of the caller: a file holds no key. The clock runs on from the saved time
    unless `frozen`. What is written is kept in memory, where the object list allows writing.
    """

    def __init__(
        self,
        saved: SavedMeter,
        *,
        secret: bytes | None = None,
        encryption_key: bytes | None = None,
        authentication_key: bytes | None = None,
        frozen: bool = False,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.saved = saved
        self._objects = {(one.class_id, one.obis): one for one in saved.objects}
        self._values = _decode_values(saved)
        self._list, self._rights = _object_list(saved)
        self._written: dict[tuple[int, Obis, int], Data] = {}
        self._frozen = frozen
        self._now = now
        self._started = now()
        self._counters: dict[int, int] = {}
        self._policies = {PUBLIC: AssociationPolicy(auth=Auth.NONE)}
        if saved.client != PUBLIC or saved.auth is not Auth.NONE:
            own = _policy(saved, secret, encryption_key, authentication_key)
            self._policies[saved.client] = own

    @property
    def system_title(self) -> bytes:
        """Eight octets, FLAG letters first."""
        return self.saved.system_title or system_title(self.saved.manufacturer or "SIM", self.saved.serial)

    def associations(self) -> Mapping[int, AssociationPolicy]:
        """Policies by client address."""
        return self._policies

    def get(self, client: int, target: Target) -> Data:
        """Return an attribute's value; AccessDenied with the saved refusal, or when nothing was saved."""
        class_id, obis, attribute, selection = target.class_id, target.obis, target.index, target.selection
        if (class_id, obis, attribute) == (15, CURRENT_ASSOCIATION, 2):
            return self._object_list_for(client)
        one, saved = self._attribute(client, class_id, obis, attribute)
        if attribute == 1:
            return octets(obis.to_bytes())
        if (written := self._written.get((class_id, obis, attribute))) is not None:
            return written
        if saved is None or saved.value is None:
            raise AccessDenied(saved.code if saved is not None and saved.code else READ_WRITE_DENIED)
        value = self._values[class_id, obis, attribute]
        if class_id == 8 and attribute == 2:
            return self._time(value)
        if class_id == 7 and attribute == 2:
            return self._columns_of(one, self._select(one, saved, value, selection), selection)
        return value

    def set(self, client: int, target: Target, value: Data) -> None:
        """Keep a value; AccessDenied where the object list does not allow writing, or for another type."""
        class_id, obis, attribute = target.class_id, target.obis, target.index
        _, saved = self._attribute(client, class_id, obis, attribute)
        rights = self._rights.get((class_id, obis))
        if saved is None or rights is None or not rights.writable(attribute):
            raise AccessDenied(READ_WRITE_DENIED)
        known = self._values.get((class_id, obis, attribute))
        if known is not None and known.tag is not value.tag:
            raise AccessDenied(TYPE_UNMATCHED)
        self._written[class_id, obis, attribute] = value
        if (class_id, attribute) == (8, 2):
            self._started = self._now()

    def action(self, client: int, target: Target, parameter: Data | None) -> Data | None:
        """Move the supply contact; any other method is refused."""
        class_id, obis, method = target.class_id, target.obis, target.index
        self._object(client, class_id, obis)
        rights = self._rights.get((class_id, obis))
        if rights is None or not rights.executable(method):
            raise AccessDenied(READ_WRITE_DENIED)
        if (class_id, obis) != (70, RELAY) or method not in (1, 2):
            raise AccessDenied(OTHER_REASON)
        if parameter is not None and parameter.integer is None:
            raise AccessDenied(TYPE_UNMATCHED)
        self._written[class_id, obis, 2] = boolean(method == 2)
        self._written[class_id, obis, 3] = enum(method - 1)
        return None

    def frame_counter(self, client: int) -> int:
        """Last invocation counter received in the association of `client`, at first the saved one."""
        return self._counters.get(client, self._saved_counter(client))

    def note_frame_counter(self, client: int, value: int) -> None:
        """Raise that counter; it never falls."""
        self._counters[client] = max(self.frame_counter(client), value)

    def _saved_counter(self, client: int) -> int:
        counter = self._values.get((1, Obis(0, 0, 43, 1, client >> 4), 2)) if client < 0x100 else None
        return (counter.integer or 0) if counter is not None else 0

    def _object_list_for(self, client: int) -> Data:
        if client not in self._policies:
            raise AccessDenied(READ_WRITE_DENIED)
        if client == self.saved.client:
            return self._list
        seen = tuple(
            e for e in self._list.items if e.items[2].octets and _public(Obis.from_bytes(e.items[2].octets))
        )
        return Data(Tag.ARRAY, seen)

    def _object(self, client: int, class_id: int, obis: Obis) -> SavedObject:
        if client not in self._policies:
            raise AccessDenied(READ_WRITE_DENIED)
        one = self._objects.get((class_id, obis))
        if one is None:
            other = any(known == obis for _, known in self._objects)
            raise AccessDenied(OBJECT_CLASS_INCONSISTENT if other else OBJECT_UNDEFINED)
        if client == PUBLIC and self.saved.client != PUBLIC and not _public(obis):
            raise AccessDenied(READ_WRITE_DENIED)
        return one

    def _attribute(
        self, client: int, class_id: int, obis: Obis, attribute: int
    ) -> tuple[SavedObject, SavedAttribute | None]:
        one = self._object(client, class_id, obis)
        return one, one.attribute(attribute)

    def _time(self, value: Data) -> Data:
        """Let the clock run on from the value, in its own way of writing the deviation."""
        at = value.octets
        if self._frozen or at is None or len(at) != cosem_time.OCTETS:
            return value
        stamp = cosem_time.decode(at)
        if stamp.at is None:
            return value
        running = stamp.at + (self._now() - self._started)
        status = 0xFF if stamp.status is None else stamp.status
        return Data(value.tag, cosem_time.encode(running, deviation=stamp.deviation, status=status))

    def _select(
        self,
        one: SavedObject,
        saved: SavedAttribute,
        buffer: Data,
        selection: Selection | None,
    ) -> Data:
        """Choose rows of a saved buffer by entry number or by the time in the selected column."""
        rows = buffer.items
        match selection:
            case None:
                return buffer
            case EntrySelection(first=first, last=last):
                if first < 1:
                    raise AccessDenied(TYPE_UNMATCHED)
                before = (saved.first_entry or 1) - 1
                low = max(first - 1 - before, 0)
                chosen = range(low, min(max(last - before, low), len(rows)) if last else len(rows))
            case RangeSelection():
                chosen = self._rows_between(one, rows, selection)
        if not chosen:
            return Data(Tag.ARRAY, ())
        head = _without_nulls(rows, chosen.start)
        time = self._time_column(one)
        if time is not None and rows[chosen.start].items[time].tag is Tag.NULL:
            at = self._times(one, rows, time)[chosen.start]
            stamp = Data(Tag.OCTET_STRING, cosem_time.encode(at)) if at else rows[chosen.start].items[time]
            head = Data(head.tag, (*head.items[:time], stamp, *head.items[time + 1 :]))
        return Data(Tag.ARRAY, (head, *rows[chosen.start + 1 : chosen.stop]))

    def _columns_of(self, one: SavedObject, buffer: Data, selection: Selection | None) -> Data:
        """Keep the columns that a selection asks for."""
        match selection:
            case RangeSelection(columns=wanted) if wanted:
                captured = [(c.class_id, c.quantity.obis, c.quantity.attribute) for c in self._columns(one)]
                names = {(w.class_id, w.obis, w.attribute) for w in wanted}
                kept = [n for n, name in enumerate(captured) if name in names]
            case EntrySelection(first_column=first, last_column=last) if first > 1 or last:
                kept = list(range(first - 1, last or len(self._columns(one))))
            case _:
                return buffer
        rows = (Data(r.tag, tuple(r.items[n] for n in kept if n < len(r.items))) for r in buffer.items)
        return Data(Tag.ARRAY, tuple(rows))

    def _rows_between(self, one: SavedObject, rows: tuple[Data, ...], selection: RangeSelection) -> range:
        column = next(
            (
                n
                for n, c in enumerate(self._columns(one))
                if (c.quantity.obis, c.quantity.attribute) == (selection.obis, selection.attribute)
            ),
            None,
        )
        if column is None:
            raise AccessDenied(OTHER_REASON)
        low, high = (cosem_time.decode(edge).at for edge in (selection.since, selection.until))
        inside = [
            n
            for n, at in enumerate(self._times(one, rows, column))
            if at is not None and (low is None or at >= low) and (high is None or at <= high)
        ]
        return range(inside[0], inside[-1] + 1) if inside else range(0)

    def _times(self, one: SavedObject, rows: tuple[Data, ...], column: int) -> list[datetime | None]:
        """Return each row's time; a null cell is one capture period after the row before."""
        period = self._values.get((7, one.obis, 4))
        seconds = (period.integer or 0) if period is not None else 0
        times: list[datetime | None] = []
        for row in rows:
            cell = row.items[column] if column < len(row.items) else Data(Tag.NULL, None)
            before = times[-1] if times else None
            if cell.octets is not None and len(cell.octets) == cosem_time.OCTETS:
                times.append(cosem_time.decode(cell.octets).at)
            else:
                times.append(before + timedelta(seconds=min(seconds, 86_400)) if before else None)
        return times

    def _columns(self, one: SavedObject) -> tuple[CapturedColumn, ...]:
        captured = self._values.get((7, one.obis, 3))
        try:
            return parse_columns(captured) if captured is not None else ()
        except MeterProtocolError:
            return ()

    def _time_column(self, one: SavedObject) -> int | None:
        return next((n for n, column in enumerate(self._columns(one)) if column.is_stamp), None)


def _without_nulls(rows: tuple[Data, ...], index: int) -> Data:
    """Return one row with its null cells filled from the rows before: null is valid inside one answer only."""
    cells = list(rows[index].items)
    for row in reversed(rows[:index]):
        if all(cell.tag is not Tag.NULL for cell in cells) or len(row.items) != len(cells):
            break
        cells = [b if c.tag is Tag.NULL else c for c, b in zip(cells, row.items, strict=True)]
    return Data(rows[index].tag, tuple(cells))


def _decode_values(saved: SavedMeter) -> dict[tuple[int, Obis, int], Data]:
    values: dict[tuple[int, Obis, int], Data] = {}
    for one in saved.objects:
        for attribute in one.attributes:
            if attribute.value is None:
                continue
            try:
                values[one.class_id, one.obis, attribute.index] = axdr.decode(attribute.value)
            except MeterProtocolError as error:
                raise MeterConfigError(f"{one.obis}#{attribute.index} of the saved meter: {error}") from error
    return values


def _object_list(saved: SavedMeter) -> tuple[Data, dict[tuple[int, Obis], ObjectEntry]]:
    try:
        data = axdr.decode(saved.object_list)
        entries = parse_object_list(data)
    except MeterProtocolError as error:
        raise MeterConfigError(f"object_list of the saved meter: {error}") from error
    return data, {(entry.class_id, entry.obis): entry for entry in entries}


def _policy(
    saved: SavedMeter, secret: bytes | None, encryption: bytes | None, authentication: bytes | None
) -> AssociationPolicy:
    needs_keys = saved.ciphered or saved.auth is Auth.HLS_GMAC
    if needs_keys and (encryption is None or authentication is None):
        raise MeterConfigError(
            f"the saved meter's client {saved.client} ciphers: give encryption_key and authentication_key"
        )
    if saved.auth.needs_secret and not secret:
        raise MeterConfigError(f"the saved meter's client {saved.client} uses {saved.auth}: give its secret")
    return AssociationPolicy(
        auth=saved.auth,
        ciphered=saved.ciphered,
        secret=secret,
        encryption_key=encryption,
        authentication_key=authentication,
        may_write=True,
    )


def _public(obis: Obis) -> bool:
    return obis in (CLOCK, *_IDENTITY) or (obis.a, obis.b, obis.c, obis.d) == _COUNTER

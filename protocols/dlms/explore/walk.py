"""Reads everything that an association's object list allows, attribute after attribute, errors included."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping

from protocols.dlms.apdu.lists import Target
from protocols.dlms.apdu.selection import EntrySelection
from protocols.dlms.client.resuming_exchange import ResumingExchange
from protocols.dlms.core.association_settings import CURRENT_ASSOCIATION
from protocols.dlms.data import axdr
from protocols.dlms.data.cursor import leading
from protocols.dlms.data.types import Data, Tag
from protocols.dlms.explore.saved_meter import SavedAttribute, SavedMethod, SavedObject
from protocols.dlms.objects import ObjectEntry, catalogue, parse_object_list
from protocols.errors import MeterProtocolError, MeterRefused, MeterSilent, NotSupported
from protocols.reading import Obis

ASSOCIATION, PROFILE = 15, 7
CHUNK = 100
"""Rows of one request when a whole buffer is wanted; meters stall on more."""
SORT_LIFO = 2
Progress = Callable[[int, int, ObjectEntry, int], None]
"""Called with attributes done, attributes in all, the object and the attribute that comes."""


def attributes_of(entry: ObjectEntry) -> Mapping[int, int | None]:
    """Return attributes with their access modes; those of the class, without modes, where the list has none."""
    if entry.attributes:
        return dict(entry.attributes)
    known = catalogue(entry.class_id, entry.version)
    return {member.number: None for member in known.attributes} if known else {1: None, 2: None}


def is_secret(class_id: int, attribute: int) -> bool:
    """Say whether an attribute holds a password: it is never read and never saved."""
    known = catalogue(class_id)
    return known is not None and any(m.secret and m.number == attribute for m in known.attributes)


class Walk:
    """One exploration of a meter. It outlives a session: some meters hang up at one attribute.

    `entries` rows are read of each profile, the newest; None reads all. `progress` is called before each
    attribute with how many are done, how many there are, and which comes.
    """

    def __init__(self, *, entries: int | None = 4, progress: Progress | None = None) -> None:
        self._entries = entries
        self._progress = progress
        self._listed: tuple[ObjectEntry, ...] = ()
        self._unread: deque[tuple[ObjectEntry, int, int | None]] = deque()
        self._found: dict[tuple[int, Obis], dict[int, SavedAttribute]] = {}
        self._total = 0
        self.object_list = b""

    @property
    def finished(self) -> bool:
        """Say whether nothing is left to read."""
        return bool(self.object_list) and not self._unread

    async def run(self, exchange: ResumingExchange) -> None:
        """Read on until the end.

        MeterSilent and MeterProtocolError end the session, not the walk: the attribute is noted with the
        error, and `run` goes on behind it with the next session.
        """
        if not self.object_list:
            await self._read_list(exchange)
        while self._unread:
            # taken before it is read: an attribute that silences the meter is not asked for a second time
            listed, index, access = self._unread.popleft()
            if self._progress is not None:
                self._progress(self._total - len(self._unread) - 1, self._total, listed, index)
            notes = self._found.setdefault((listed.class_id, listed.obis), {})
            try:
                notes[index] = await self._read(exchange, listed, index, access)
            except (MeterSilent, MeterProtocolError) as error:
                notes[index] = SavedAttribute(index=index, access=access, error=str(error))
                raise

    def objects(self) -> tuple[SavedObject, ...]:
        """Return what was read so far, in the order of the object list."""
        return tuple(
            SavedObject(
                class_id=listed.class_id,
                version=listed.version,
                obis=listed.obis,
                attributes=tuple(
                    self._found.get((listed.class_id, listed.obis), {}).get(
                        index, SavedAttribute(index=index, access=access)
                    )
                    for index, access in attributes_of(listed).items()
                ),
                methods=tuple(SavedMethod(index=i, access=mode) for i, mode in listed.methods.items()),
            )
            for listed in self._listed
        )

    async def _read_list(self, exchange: ResumingExchange) -> None:
        octets = await exchange.get_octets(Target(ASSOCIATION, CURRENT_ASSOCIATION))
        self._listed = parse_object_list(leading(octets, axdr.decode)[0])
        for listed in self._listed:
            # a buffer comes last: entries in use and sort method say which rows to ask for
            late = 2 if listed.class_id == PROFILE else 0
            for index, access in sorted(attributes_of(listed).items(), key=lambda a: a[0] == late):
                allowed = access is None or listed.readable(index)
                if index > 1 and allowed and not is_secret(listed.class_id, index):
                    self._unread.append((listed, index, access))
        self._total = len(self._unread)
        self.object_list = octets

    async def _read(
        self, exchange: ResumingExchange, listed: ObjectEntry, index: int, access: int | None
    ) -> SavedAttribute:
        try:
            if (listed.class_id, index) == (PROFILE, 2):
                return await self._read_buffer(exchange, listed, access)
            value = await exchange.get_octets(Target(listed.class_id, listed.obis, index))
        except (MeterRefused, NotSupported) as error:
            refused = error if isinstance(error, MeterRefused) else error.__cause__  # see `object_refusal`
            code = refused.reason_code if isinstance(refused, MeterRefused) else None
            return SavedAttribute(index=index, access=access, error=str(error), code=code)
        return SavedAttribute(index=index, access=access, value=value)

    async def _read_buffer(
        self, exchange: ResumingExchange, listed: ObjectEntry, access: int | None
    ) -> SavedAttribute:
        # without entries in use there is no telling which entries are the newest: the whole buffer then
        used = self._number(listed, 7)
        wanted = self._entries if self._entries is not None else used
        if not used or wanted is None or used <= min(wanted, CHUNK):
            value = await exchange.get_octets(Target(PROFILE, listed.obis))
            return SavedAttribute(index=2, access=access, value=value)
        newest_first = self._number(listed, 5) == SORT_LIFO
        wanted = min(wanted, used)
        first = 1 if newest_first else used - wanted + 1
        rows: list[Data] = []
        for start in range(first, first + wanted, CHUNK):
            end = min(start + CHUNK, first + wanted) - 1
            part = await exchange.get(Target(PROFILE, listed.obis, 2, EntrySelection(start, end)))
            rows += part.items
        value = axdr.encode(Data(Tag.ARRAY, tuple(rows)))
        whole = wanted == used
        return SavedAttribute(index=2, access=access, value=value, first_entry=None if whole else first)

    def _number(self, listed: ObjectEntry, index: int) -> int | None:
        found = self._found.get((listed.class_id, listed.obis), {}).get(index)
        return None if found is None or found.value is None else axdr.decode(found.value).integer

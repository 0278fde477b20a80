"""How a profile is got from a meter: a profile generic, several of them, or single objects; and rules to find them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from protocols.dlms.objects.object_list import ObjectEntry
from protocols.reading import Obis, Quantity

PROFILE_GENERIC = 7


@dataclass(frozen=True, slots=True)
class BufferSource:
    """A profile generic: where it may be, in order, and its scaler profile (None = ask each object)."""

    places: tuple[Obis, ...]
    scaler_profile: Obis | None = None


@dataclass(frozen=True, slots=True)
class LogsSource:
    """Several event logs; a meter need not have all."""

    logs: tuple[BufferSource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRead:
    """One value to read: the first of `places` that answers, given as `quantity`.

    `scale` None asks a register for its own; `time` says that octets are a date-time.
    """

    quantity: Quantity
    class_id: int
    places: tuple[Obis, ...]
    scale: tuple[int, str] | None = None
    time: bool = False


@dataclass(frozen=True, slots=True)
class ObjectsSource:
    """Single objects that make up a snapshot of the present."""

    reads: tuple[ObjectRead, ...]


Source = BufferSource | LogsSource | ObjectsSource


@dataclass(frozen=True, slots=True)
class Pattern:
    """Six spans of OBIS groups, `*` being 0-255."""

    spans: tuple[tuple[int, int], ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Read `1.*.99.1-2.0.255`; ValueError names what is wrong."""
        groups = text.split(".")
        if len(groups) != 6:
            raise ValueError(f"a pattern has 6 groups, not {len(groups)}: {text!r}")
        return cls(tuple(_span(group, text) for group in groups))

    def matches(self, obis: Obis) -> bool:
        """Say whether every group lies in its span."""
        return all(
            low <= group <= high for group, (low, high) in zip(obis.to_bytes(), self.spans, strict=True)
        )


def _span(group: str, text: str) -> tuple[int, int]:
    if group == "*":
        return 0, 255
    low, dash, high = group.partition("-")
    ends = (low, high if dash else low)
    if not all(end.isdecimal() and end.isascii() for end in ends):
        raise ValueError(f"a group is a number, a span or *: {group!r} in {text!r}")
    span = int(ends[0]), int(ends[1])
    if not 0 <= span[0] <= span[1] <= 255:
        raise ValueError(f"group {group} is outside 0..255 in {text!r}")
    return span


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectPattern:
    """Objects of some classes whose name matches, and which of their attributes are wanted."""

    classes: tuple[int, ...]
    pattern: Pattern
    attributes: tuple[int, ...] = (2,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How a profile is found in an object list: by `buffer`, `logs` or `objects`.

    `scalers` is the scaler profile of a buffer, where the list has it; `objects` may stand behind a buffer for
    meters that have none.
    """

    buffer: tuple[Pattern, ...] = ()
    scalers: Obis | None = None
    logs: tuple[Pattern, ...] = ()
    objects: tuple[ObjectPattern, ...] = ()
    most: int = 100

    def find(self, listed: Sequence[ObjectEntry]) -> Source | None:
        """Find what a meter has of it, None when it has nothing."""
        if places := tuple(_profiles(self.buffer, listed)):
            scaled = any(item.class_id == PROFILE_GENERIC and item.obis == self.scalers for item in listed)
            return BufferSource(places[:1], self.scalers if scaled else None)
        if self.logs:
            logs = tuple(BufferSource((place,)) for place in dict.fromkeys(_profiles(self.logs, listed)))
            return LogsSource(logs[: self.most]) if logs else None
        reads = dict.fromkeys(self._reads(listed))
        return ObjectsSource(tuple(reads)[: self.most]) if reads else None

    def _reads(self, listed: Sequence[ObjectEntry]) -> Iterator[ObjectRead]:
        for wanted in self.objects:
            for item in listed:
                if item.class_id not in wanted.classes or not wanted.pattern.matches(item.obis):
                    continue
                for attribute in wanted.attributes:
                    if _readable(item, attribute):
                        yield ObjectRead(
                            quantity=Quantity(item.obis, attribute),
                            class_id=item.class_id,
                            places=(item.obis,),
                        )


def _readable(entry: ObjectEntry, attribute: int) -> bool:
    """Say whether an attribute may be read; where the list gives no rights at all it is tried."""
    return not entry.attributes or entry.readable(attribute)


def in_order(listed: Sequence[ObjectEntry]) -> tuple[ObjectEntry, ...]:
    """Sort an object list by OBIS and class; of an object that is named twice the first entry counts."""
    found: dict[tuple[Obis, int], ObjectEntry] = {}
    for entry in listed:
        found.setdefault((entry.obis, entry.class_id), entry)
    return tuple(found[key] for key in sorted(found))


def _profiles(patterns: Sequence[Pattern], listed: Sequence[ObjectEntry]) -> Iterator[Obis]:
    for pattern in patterns:
        for item in listed:
            if item.class_id == PROFILE_GENERIC and _readable(item, 2) and pattern.matches(item.obis):
                yield item.obis

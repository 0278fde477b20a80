"""Meters by URL: `open_meter` for scripts and notebooks, `open_meter_async` for programs with an event loop."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, closing
from datetime import UTC, datetime
from decimal import Decimal
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakSet

from protocols.clock import SystemClock
from protocols.errors import LocalError, MeterConfigError
from protocols.meters.address import parse_address
from protocols.meters.counters import CountersOnDemand
from protocols.meters.key_file import KeyFile
from protocols.meters.lines import make_line
from protocols.meters.open import open_session
from protocols.meters.session_thread import SessionThread
from protocols.reading import (
    Bits,
    Instant,
    MeterClock,
    Missing,
    MissingReason,
    Nameplate,
    Number,
    ProfileName,
    Quality,
    Quantity,
    ReadingSet,
    RelayState,
    Value,
    name_of,
)
from protocols.session import MeterSession, SessionContext

Cell = Decimal | datetime | str | None
"""A value of a row: exact number, UTC time, text or bits, or nothing."""
At = TypeVar("At", datetime, datetime | None)


class Row(Mapping[str, Cell]):
    """What a meter recorded at one instant: values by OBIS code.

    Keys are OBIS codes as text (`1-0:1.29.0*255`; the time of a maximum demand is `1-0:1.6.0*255#5`); any way
    to write a code finds its value (`1-0:1.29.0`, `1.0.1.29.0.255`). Numbers are `Decimal`, exact from the
    meter's mantissa and scaler, never a float; times are aware and in UTC; texts and bit strings are `str`.
    What the meter does not tell is None, never zero: `missing` says why.

    >>> from protocols.reading import Obis
    >>> values = ((Quantity(Obis(1, 0, 1, 29, 0)), Number(1234, -1, "Wh")),)
    >>> at = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
    >>> row = Row(ReadingSet(profile=ProfileName.DAILY, at=at, values=values, received_at=at))
    >>> row["1-0:1.29.0*255"], row.unit("1-0:1.29.0"), row.name("1-0:1.29.0")
    (Decimal('123.4'), 'Wh', 'interval_energy_import')
    """

    def __init__(self, reading: ReadingSet) -> None:
        self.reading = reading
        self._values: dict[str, Value] = {}
        for quantity, value in reading:  # the first of two columns of one quantity counts, as in `ReadingSet`
            self._values.setdefault(str(quantity), value)

    @property
    def at(self) -> datetime:
        """When it was captured, in UTC: the end of an interval."""
        return self.reading.at.astimezone(UTC)

    @property
    def start(self) -> datetime | None:
        """When the interval began, in UTC; None for a snapshot."""
        return None if self.reading.start is None else self.reading.start.astimezone(UTC)

    @property
    def quality(self) -> Quality:
        """How far it is to be trusted (IEC 61968-9); VALID unless something was odd."""
        return self.reading.quality

    def unit(self, obis: str) -> str:
        """Return the unit of a value (`Wh`, `V`, `INR`), or "" when it has none; KeyError for another code."""
        value = self._value(obis)
        return value.unit if isinstance(value, Number) else ""

    def missing(self, obis: str) -> MissingReason | None:
        """Return why a value is absent, or None when it is there; KeyError when the row lacks the column."""
        value = self._value(obis)
        return value.reason if isinstance(value, Missing) else None

    def suspect(self, obis: str) -> bool:
        """Return whether a value was read and cannot be; KeyError when the row lacks the column."""
        self._value(obis)
        quantity = Quantity.of(obis)
        whole = not self.reading.suspect and self.quality is Quality.SUSPECT
        return whole or quantity in self.reading.suspect

    def name(self, obis: str) -> str:
        """Return the readable name of a column (`voltage_l1`), or its code when it has none; KeyError as above."""
        self._value(obis)
        return name_of(Quantity.of(obis))

    def _value(self, obis: str) -> Value:
        if obis in self._values:
            return self._values[obis]
        try:
            return self._values[str(Quantity.of(obis))]
        except (KeyError, ValueError):
            raise KeyError(obis) from None

    def __getitem__(self, obis: str) -> Cell:
        match self._value(obis):
            case Number() as number:
                return number.decimal()
            case Instant(at):
                return at
            case Missing():
                return None
            case Bits(bits):
                return bits
            case text:
                return text.text

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Row({self.reading.profile}, {self.at.isoformat()}, {len(self)} values)"


class Meter:
    """An open meter, used without `await`; made by `open_meter`, closed by `close` or the end of its block.

    Every method waits for the meter and raises the errors of `protocols.errors`. One thread uses a meter at a
    time. An interrupt (Ctrl-C) ends what the meter is asked for, and the meter stays usable or says that it is
    not.
    """

    def __init__(self, url: str, *, keys: str | PathLike[str] | None = None) -> None:
        self._thread = SessionThread(lambda: open_meter_async(url, keys=keys))
        self._iterators: WeakSet[_ReadingIterator] = WeakSet()
        self._session = self._thread.open()

    def identify(self) -> Nameplate:
        """Ask who the meter is; return manufacturer, serial, firmware, model and year.

        Raises IdentityMismatch when the URL names another meter.
        """
        return self._thread.call(self._session.identify())

    def clock(self) -> MeterClock:
        """Read the meter's clock beside ours; `drift` is how many seconds it is ahead.

        Raises NotSupported when the meter has no clock that can be read.
        """
        return self._thread.call(self._session.clock())

    def set_clock(self, at: datetime) -> None:
        """Set the meter's clock to an instant with a zone; raises MeterRefused when this client may not."""
        self._thread.call(self._session.set_clock(_aware(at, "at")))

    def relay(self) -> RelayState:
        """Read the supply contact's state; NotSupported when the meter has none."""
        return self._thread.call(self._session.relay())

    def switch_relay(self, to: RelayState) -> None:
        """Order the supply contact to open or close; success is acceptance, proof is `relay()` afterwards."""
        self._thread.call(self._session.switch_relay(to))

    def rows(
        self, profile: ProfileName | str, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Row]:
        """Read a profile and yield its rows as they come, oldest first.

        `profile` is `block_load`, `daily`, `billing`, `events`, `instantaneous`, `nameplate` or `prepayment`.
        Stored ones yield what was captured with since < at <= until, times with a zone (None = no bound);
        of the present there is one row. Raises LocalError for another name or a time without zone,
        NotSupported when the meter lacks the profile.
        """
        return (Row(reading) for reading in self.read(profile, since, until))

    def read(
        self, profile: ProfileName | str, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[ReadingSet]:
        """Read a profile as `rows` does and yield reading sets: values with mantissa, scaler and unit."""
        since, until = _aware(since, "since"), _aware(until, "until")
        found = _ReadingIterator(self._thread, self._session.read(_profile(profile), since, until))
        self._iterators.add(found)
        return found

    def close(self) -> None:
        """End the conversation, close line and counters, and end the thread. Idempotent."""
        if self._thread.closed:
            return
        try:
            for one in list(self._iterators):
                one.close()
        finally:
            self._thread.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        thread = self.__dict__.get("_thread")  # not there when it could not be made
        if thread is not None and not thread.closed:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            thread.abandon()


class _ReadingIterator(Iterator[ReadingSet]):
    """Readings of one `read`, asked for one by one in the meter's thread."""

    def __init__(self, thread: SessionThread[MeterSession], readings: AsyncIterator[ReadingSet]) -> None:
        self._thread = thread
        self._readings = readings

    def __next__(self) -> ReadingSet:
        reading = self._thread.call(self._following())
        if reading is None:
            raise StopIteration
        return reading

    async def _following(self) -> ReadingSet | None:
        return await anext(self._readings, None)

    def close(self) -> None:
        """End the reading where it stands, while the conversation is open: its clean-up may need it."""
        self._thread.call(self._end())

    async def _end(self) -> None:
        if (end := getattr(self._readings, "aclose", None)) is not None:
            await end()


def open_meter(url: str, *, keys: str | PathLike[str] | None = None) -> Meter:
    """Open the meter at a URL, for code without `await`; close it, or use it in a `with` block.

    `url` is `dlms+tcp://HOST[:4059]`, `dlms+udp://…`, `dlms+serial:///DEVICE`, `dlms+optical:///DEVICE`,
    `modbus+tcp://HOST[:502]`, `modbus+rtu+tcp://…` or `modbus+serial:///DEVICE`, with settings by their names
    in the query: of the line (`baud`, `parity`, `stop_bits`), of the meter (`meter`, its expected identity;
    `zone`, by default Asia/Kolkata), of DLMS (`client`, `auth`, `physical`, `timeout` and the others of
    `DlmsSettings`), of Modbus (`unit`, `model`, `timeout`). `keys` is the path of a key file: TOML with
    `password` or `hls_key`, `encryption_key` and `authentication_key`, which nobody else may read (chmod 600).
    Invocation counters are kept beside it (`keys.toml` has `keys.counters.json`); one program has them at a time.

    Returns an open `Meter`: associated, and identified where the URL names a meter. It works where an event
    loop is running, too (a notebook), since it has a loop in a thread of its own. Raises MeterConfigError for a
    wrong URL or key file, LineUnavailable when the line cannot be opened, MeterSilent, AssociationRefused,
    SecurityFailure, IdentityMismatch; then nothing stays open.

    Example::

        with open_meter("dlms+tcp://10.0.0.7:4059?client=48", keys="keys.toml") as meter:
            print(meter.identify().serial, meter.clock().drift)
            for row in meter.rows("block_load", since, until):
                print(row.at, row["1-0:1.29.0*255"])
    """
    return Meter(url, keys=keys)


@asynccontextmanager
async def open_meter_async(
    url: str, *, keys: str | PathLike[str] | None = None
) -> AsyncIterator[MeterSession]:
    """Open the meter at a URL for the block, in the running event loop; what is opened is closed at its end.

    `url` and `keys` are those of `open_meter`, and it raises what that raises. Yields a `MeterSession`, whose
    readings become rows by `Row(reading)`. Cancelling it ends the conversation and closes the line.

    Example::

        async with open_meter_async("modbus+tcp://10.0.0.9?unit=1&model=sdm120") as session:
            async for reading in session.read(ProfileName.INSTANTANEOUS):
                print(Row(reading)["1-0:12.7.0*255"])
    """
    file = None if keys is None else KeyFile(Path(keys))
    settings, spec = parse_address(url, file)
    line = make_line("meter", settings)
    with ExitStack() as stack:
        if file is None:
            context = SessionContext(secrets=_NoKeys(), counters=_NoKeys(), clock=SystemClock())
        else:
            counters = stack.enter_context(closing(CountersOnDemand(file.counters)))
            context = SessionContext(secrets=file, counters=counters, clock=SystemClock())
        try:
            async with open_session(line, spec, context) as session:
                yield session
        finally:
            await line.close()


class _NoKeys:
    """Secrets and counters where no key file was given: settings that need one are refused before it is asked."""

    def secret(self, ref: str) -> bytes:
        raise MeterConfigError(f"{ref} is needed and no key file was given")

    def next(self, key: str, at_least: int = 0) -> int:
        raise MeterConfigError(f"a counter of {key} from {at_least} is needed and no key file was given")

    def believes(self, key: str, told: int) -> bool:
        raise MeterConfigError(f"a counter of {key} above {told} is needed and no key file was given")

    def confirm(self, key: str, counter: int) -> None:
        raise MeterConfigError(f"counter {counter} of {key} was used and no key file was given")

    def proven(self, key: str) -> bool:
        raise MeterConfigError(f"a counter of {key} is needed and no key file was given")

    def failed(self, key: str) -> None:
        raise MeterConfigError(f"a counter of {key} was used and no key file was given")


def _profile(name: ProfileName | str) -> ProfileName:
    try:
        return ProfileName(name)
    except ValueError as error:
        raise LocalError(f"`{name}` is no profile: {', '.join(ProfileName)}") from error


def _aware(at: At, what: str) -> At:
    if at is not None and at.utcoffset() is None:
        raise LocalError(f"`{what}` needs a zone, for example datetime(2026, 11, 23, tzinfo=UTC)")
    return at

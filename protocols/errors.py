"""The errors of talking to meters: each class says who must act and what happens next.

ProtocolError
├── LineError              the line: the poller backs off and retries the line
│   ├── LineUnavailable    it cannot be opened (refused, no such device)
│   ├── LineClosed         the far end closed it, perhaps in mid-message
│   └── LineTimeout        nothing (more) came before the deadline
├── MeterError             the meter: this meter is retried later, others go on
│   ├── MeterProtocolError it sent bytes that break the protocol (bad CRC, length, tag)
│   ├── MeterRefused       it answered with an error (Modbus exception, data-access-result)
│   │   ├── MeterBusy      it asked to be asked later
│   │   └── AssociationLost it does not know our association any more: associate again
│   ├── MeterSilent        the line works and this meter does not answer
│   ├── AnswerOwed         an earlier answer may still come and be taken for this one's: ask later
│   ├── AssociationRefused it refused the association (password, key, context)
│   ├── SecurityFailure    a tag, counter or protection level is not what was agreed
│   │   ├── InvocationCounterRefused  our counter is behind the meter's: read it and associate again
│   │   └── CounterNotBelieved        the meter's counter is far above ours, and not proven: compare, then reset
│   ├── WriteNotKept       it said yes to a write and holds something else: the message says what stands
│   ├── WriteUnproven      the line failed between a write and the reading back: read what stands
│   └── IdentityMismatch   another meter answers at this address: stop, nothing is attributed
├── NotSupported           the meter (model) lacks this: skip the item, go on
├── MeterConfigError       our configuration of the meter is wrong: fix it, no retry helps
│   └── SecretMissing      its settings need a key or password that nobody gave
└── LocalError             our own misuse of an interface: a bug
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocols.reading import Number, Quantity


class ProtocolError(Exception):
    """Root of every error that leaves this package.

    `meter`, `line` and `doing` are filled in by whoever knows them (see `with_context`).
    """

    meter: str | None = None
    line: str | None = None
    doing: str | None = None

    def with_context(
        self, *, meter: str | None = None, line: str | None = None, doing: str | None = None
    ) -> ProtocolError:
        """Add where it happened without replacing what an inner layer already said."""
        self.meter = self.meter or meter
        self.line = self.line or line
        self.doing = self.doing or doing
        return self

    @property
    def code(self) -> str:
        """Stable snake_case name for messages, metrics and documentation."""
        return error_code(type(self))

    def __str__(self) -> str:
        where = [f"{k} {v}" for k, v in (("meter", self.meter), ("line", self.line), ("", self.doing)) if v]
        text = super().__str__()
        return f"{text} ({', '.join(w.strip() for w in where)})" if where else text


class LineError(ProtocolError):
    """The line failed: back off, reopen, retry."""


class LineUnavailable(LineError):
    """The line cannot be opened."""


class LineClosed(LineError):
    """The far end closed the line."""


class LineTimeout(LineError):
    """Nothing (more) arrived before the deadline."""


class MeterError(ProtocolError):
    """One meter failed: try it later; the others on the line go on."""


class MeterProtocolError(MeterError):
    """The meter sent bytes that break the protocol."""


class MeterRefused(MeterError):
    """The meter answered with an error code; `reason_code` is the protocol's own number."""

    def __init__(self, message: str, *, reason_code: int | None = None) -> None:
        super().__init__(message)
        self.reason_code = reason_code


class MeterBusy(MeterRefused):
    """The meter asked to be asked again later."""


class AssociationLost(MeterRefused):
    """The meter does not know our association any more: it timed out there, or the meter restarted."""


class MeterSilent(MeterError):
    """The line works but this meter does not answer."""


class AnswerOwed(MeterError):
    """An earlier answer of this meter may still come, and this request's could not be told from it.

    `seconds` from now the line is clear for it; other requests may be answered before.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"an earlier answer that looks the same may still come: ask again in {seconds:.1f} s"
        )
        self.seconds = seconds


class AssociationRefused(MeterError):
    """The meter refused the association; the message names the diagnostic."""


class SecurityFailure(MeterError):
    """A tag, counter or protection level is not what was agreed.

    `by_meter`: the meter says so of what we sent (another key there, or a counter that it has seen), not we of its
    answer.
    """

    def __init__(self, message: str = "", *, by_meter: bool = False) -> None:
        super().__init__(message)
        self.by_meter = by_meter


class InvocationCounterRefused(SecurityFailure):
    """The meter has seen our invocation counter, or a later one; `meter_counter` is its last where it told."""

    def __init__(
        self, *, meter_counter: int | None, own_counter: int | None = None, where: str | None = None
    ) -> None:
        ours = "our invocation counter" if own_counter is None else f"invocation counter {own_counter:,}"
        theirs = "the meter's" if meter_counter is None else f"the meter's {meter_counter:,}"
        super().__init__(
            f"{ours} is behind {theirs}: read {where or 'its counter object'} and associate again",
            by_meter=True,
        )
        self.meter_counter = meter_counter
        self.own_counter = own_counter


class CounterNotBelieved(SecurityFailure):
    """The meter shows a counter far above ours to whoever asks, and takes none of ours: somebody must look."""

    def __init__(self, *, told: int, own: int) -> None:
        super().__init__(
            f"the meter shows invocation counter {told:,}, far above our {own:,}, without proof, and refuses ours:"
            f" if another reader shows the same, `counters reset METER --to {told + 1}`; else the meter is at fault"
        )
        self.told = told
        self.own = own


class WriteNotKept(MeterError):
    """The meter answered a write with success, and reading back showed something else.

    `found` is what the write made of it, `now` what stands after putting back; `restored` says whether that is
    what stood before.
    """

    def __init__(self, *, what: str, answered: bool, found: str, now: str, restored: bool) -> None:
        took = f"the meter took the write of {what}" if answered else f"the write of {what} drew no answer"
        if restored and found == now:
            end = "it stands as it did before"
        elif restored:
            end = f"it was put back to what it was and now shows {now}"
        else:
            end = f"it could NOT be put back and now shows {now}: set it by hand"
        super().__init__(f"{took}, and it then showed {found}: {end}")
        self.found = found
        self.now = now
        self.restored = restored


class WriteUnproven(MeterError):
    """A write went out and nothing is known of it: the line or the association failed before it was read back."""


class IdentityMismatch(MeterError):
    """Another meter answers at this address; `advice` says what to do where it is the same one for all that.

    `shown` are the energy registers of the one that answered, at `shown_at`, where they could be read: by them it is
    told which readings cannot have been its.
    """

    shown: Mapping[Quantity, Number] = MappingProxyType({})
    shown_at: datetime | None = None

    def __init__(self, *, expected: str, found: str, advice: str = "") -> None:
        super().__init__(f"expected meter {expected}, but {found} answers at this address{advice}")
        self.expected = expected
        self.found = found


class NotSupported(ProtocolError):
    """The meter or its model lacks this item: skip it."""


class MeterConfigError(ProtocolError):
    """The configuration of a meter or line is wrong; no retry helps."""


class SecretMissing(MeterConfigError):
    """Settings need a key or password that nobody gave: `setting` names what needs it, `secret` what is needed."""

    def __init__(self, setting: str, secret: str) -> None:
        super().__init__(
            f"{setting} needs {secret}: put {'them' if ' and ' in secret else 'it'} into a key file"
        )
        self.setting = setting
        self.secret = secret


class LocalError(ProtocolError):
    """An interface was misused by our own code."""


def error_code(error: type[Exception]) -> str:
    """Return the code of a class of errors: `MeterSilent` has `meter_silent`."""
    name = error.__name__
    return "".join(("_" if c.isupper() and i else "") + c.lower() for i, c in enumerate(name))

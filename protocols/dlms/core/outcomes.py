"""What comes out of a client connection: events, and the errors that error APDUs stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from protocols.dlms.apdu import diagnostics
from protocols.dlms.apdu.diagnostics import confirmed_error_name, exception_name, result_name
from protocols.dlms.apdu.lists import Outcome
from protocols.dlms.apdu.services import Apdu, ConfirmedServiceError, ExceptionResponse
from protocols.dlms.data import axdr
from protocols.dlms.data.types import Data
from protocols.errors import (
    AssociationLost,
    InvocationCounterRefused,
    MeterBusy,
    MeterError,
    MeterProtocolError,
    MeterRefused,
    NotSupported,
    SecurityFailure,
)


@dataclass(frozen=True, slots=True)
class LinkUp:
    """The link is connected."""


@dataclass(frozen=True, slots=True)
class LinkDown:
    """The link is disconnected."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Associated:
    """The association stands. `system_title` is empty when the meter gave none."""

    system_title: bytes
    max_pdu: int
    conformance: int


@dataclass(frozen=True, slots=True)
class Released:
    """The association ended in order."""


@dataclass(frozen=True, slots=True)
class ValueRead:
    """Answer to a GET: the A-XDR octets of the value as the meter sent them."""

    octets: bytes

    @property
    def data(self) -> Data:
        """Decode the value; MeterProtocolError when its octets are no value."""
        return axdr.decode(self.octets)

    @classmethod
    def of(cls, data: Data) -> ValueRead:
        """Make one of a value."""
        return cls(axdr.encode(data))


@dataclass(frozen=True, slots=True)
class RequestDone:
    """Answer to a SET or ACTION; `data` is what a method returned."""

    data: Data | None = None


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Answer to a request on a list: one outcome for each attribute or method, in the order asked for."""

    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Pushed:
    """The meter sent a notification that nothing asked for: the APDU as it came, perhaps ciphered.

    `back` frames an answer to it, where one can be sent.
    """

    apdu: bytes
    back: Callable[[bytes], bytes] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """The meter answered the request with a data-access-result or action-result; the association stands.

    `left_over` are octets behind that result, which no standard has.
    """

    code: int
    left_over: bytes = b""


TEMPORARY_FAILURE = 2
"""Data-access-result of a meter that cannot answer now, for example while it closes a billing period."""
NOT_THERE = (4, 9, 11)
"""Data-access-results that mean that the meter lacks the object."""
Event = (
    LinkUp | LinkDown | Associated | Released | ValueRead | RequestDone | Outcomes | RequestRefused | Pushed
)

KEYS = ": see encryption_key_ref, authentication_key_ref"


def error_of(answer: Apdu) -> MeterError:
    """Turn an error APDU into the error that says who must act."""
    match answer:
        case ExceptionResponse(service=diagnostics.DECIPHERING_ERROR):
            return SecurityFailure(
                f"the meter could not decipher our request (global key wrong?){KEYS}", by_meter=True
            )
        case ExceptionResponse(service=diagnostics.INVOCATION_COUNTER_ERROR, counter=counter):
            return InvocationCounterRefused(meter_counter=counter)
        case ExceptionResponse(state=diagnostics.SERVICE_NOT_ALLOWED as state, service=service):
            return AssociationLost(
                f"exception-response, {exception_name(state, service)}", reason_code=service
            )
        case ExceptionResponse(state=state, service=service):
            return MeterRefused(f"exception-response, {exception_name(state, service)}", reason_code=service)
        case ConfirmedServiceError(error=0, value=6):
            return SecurityFailure(
                f"the meter could not decipher our request (global key wrong, or the dedicated one wanted?){KEYS}",
                by_meter=True,
            )
        case ConfirmedServiceError(service=service, error=2, value=1):  # VDE state: no DLMS context
            return AssociationLost(confirmed_error_name(service, 2, 1), reason_code=1)
        case ConfirmedServiceError(service=service, error=error, value=value):
            return MeterRefused(confirmed_error_name(service, error, value), reason_code=value)
    return MeterProtocolError(f"{type(answer).__name__} where an error was expected")


def service_refusal(code: int, what: str, remark: str = "") -> MeterRefused:
    """Return the error for a data-access-result or action-result that refuses a whole request."""
    kind = MeterBusy if code == TEMPORARY_FAILURE else MeterRefused
    return kind(f"the meter refused {what}: {result_name(code)}{remark}", reason_code=code)


def object_refusal(code: int, what: str, remark: str = "") -> MeterRefused | NotSupported:
    """Return the error for a result of one attribute or method: NotSupported where the meter lacks it."""
    error = service_refusal(code, what, remark)
    if code not in NOT_THERE:
        return error
    missing = NotSupported(str(error))
    missing.__cause__ = error  # tools show its reason code
    return missing

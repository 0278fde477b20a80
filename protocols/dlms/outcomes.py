"""What comes out of a client connection: events, and the errors that error APDUs stand for."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.dlms import apdu
from protocols.dlms.apdu import ConfirmedServiceError, ExceptionResponse
from protocols.dlms.types import Data
from protocols.errors import MeterBusy, MeterError, MeterProtocolError, MeterRefused, SecurityFailure
from protocols.session import Auth


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
class Value:
    """Answer to a GET."""

    data: Data


@dataclass(frozen=True, slots=True)
class Done:
    """Answer to a SET or ACTION; `data` is what a method returned."""

    data: Data | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The meter answered the request with a data-access-result or action-result; the association stands."""

    code: int


Event = LinkUp | LinkDown | Associated | Released | Value | Done | Refused


HINTS = {
    Auth.NONE: " (does this client address need a password?)",
    Auth.LLS: " (wrong LLS password or key?)",
    Auth.HLS2: " (wrong HLS key or global key?)",
    Auth.HLS_GMAC: " (wrong encryption or authentication key?)",
}


def error_of(answer: apdu.Apdu) -> MeterError:
    """Turn an error APDU into the error that says who must act."""
    match answer:
        case ExceptionResponse(service=apdu.DECIPHERING_ERROR):
            return SecurityFailure("the meter could not decipher our request (wrong global key?)")
        case ExceptionResponse(service=apdu.INVOCATION_COUNTER_ERROR, counter=counter):
            return SecurityFailure(f"the meter refuses our invocation counter (its last is {counter})")
        case ExceptionResponse(state=state, service=service):
            return MeterRefused(f"exception-response: state {state}, service {service}", reason_code=service)
        case ConfirmedServiceError(error=error, value=value):
            if (error, value) == (0, 6):
                return SecurityFailure("the meter could not decipher our request (wrong global key?)")
            return MeterRefused(f"service error {error}, value {value}", reason_code=value)
    return MeterProtocolError(f"{type(answer).__name__} where an error was expected")


def refusal(code: int, what: str) -> MeterRefused:
    """Make the error for a data-access-result."""
    kind = MeterBusy if code == 2 else MeterRefused  # temporary failure
    return kind(f"the meter refused {what}: {apdu.result_name(code)}", reason_code=code)

"""What it means when no answer came, or a refusal: the error that says who acts, and names what came instead."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocols.errors import MeterBusy, MeterProtocolError, MeterRefused, MeterSilent
from protocols.modbus.client.account import GATEWAY_CODES, Overheard
from protocols.modbus.framing.hunt import Passed
from protocols.modbus.framing.requests import Request
from protocols.unused import Unused

EXCEPTIONS = {
    1: "illegal function",
    2: "illegal data address",
    3: "illegal data value",
    4: "device failure",
    5: "acknowledge",
    6: "device busy",
    8: "memory parity error",
    10: "gateway path unavailable",
    11: "gateway target does not respond",
}


def no_answer(
    request: Request, passed: Passed, found: Sequence[Overheard], *, begun: bool, wait: float
) -> MeterSilent | MeterProtocolError:
    """Return the error of a request that was not answered in `wait` seconds, while something else came.

    `found` is what was passed over, with its causes; `begun` says that an answer had begun. It is MeterSilent where all
    that came is explained by others or by what was asked before.
    """
    said = named(found, request)
    if passed.contested:
        return MeterProtocolError(
            f"another master talks on this line and asks unit {request.unit} the same: whose answer came cannot be told"
        )
    if passed.bad_checks:
        return MeterProtocolError(
            f"the check sum of the answer is wrong ({passed.octets} octets came): noise on the line, or two meters"
            f" answer at {request.unit}"
        )
    if begun:
        return MeterProtocolError(f"the answer broke off after {passed.octets} octets")
    if all(one.explained for one in found) and not passed.garbage:
        return MeterSilent("; ".join([f"no answer in {wait:g} s", *said]))
    if passed.garbage:
        said.append(f"{passed.garbage} octets came that are no frame")
    return MeterProtocolError("; ".join(said))


def refusal(code: int) -> MeterRefused | MeterSilent:
    """Return the error that an exception code means."""
    text = f"Modbus exception {code} ({EXCEPTIONS.get(code, 'not a standard code')})"
    if code in (5, 6):
        return MeterBusy(text, reason_code=code)
    if code in GATEWAY_CODES:  # a gateway says for a meter behind it that it does not answer
        return MeterSilent(text)
    return MeterRefused(text, reason_code=code)


def named(found: Iterable[Overheard], request: Request) -> list[str]:
    """Say in words what came in the place of an answer, each thing once."""
    return list(dict.fromkeys(text for one in found if (text := _text(one, request))))


def _text(one: Overheard, request: Request) -> str | None:
    frame = one.frame
    match one.cause:
        case Unused.OTHER_MASTER:
            return "another master talks on this line"
        case Unused.WRONG_ADDRESS:
            return f"unit {frame.unit} answers instead of unit {request.unit}"
        case Unused.ECHO:
            return "the line gives back what is sent on it"
        case Unused.FOREIGN_TRANSACTION:
            return (
                f"an answer with transaction {frame.transaction} came, which was not asked: where this gateway numbers"
                " its answers itself, set own_transactions = true"
            )
    if one.explained:
        return None
    function = frame.pdu[0] & 0x7F
    if function != request.function:
        return f"the answer is to function {function}, not {request.function}"
    wanted = request.data_octets
    return f"the answer has {frame.pdu[1]} octets of data{'' if wanted is None else f', not {wanted}'}"

"""What pages need of a capture's values: energy in kWh, balance in rupees, relay state; exact or nothing."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from gateway.contract.messages import Capture, CaptureValue

ENERGY = ("1-0:1.8.0*255", "1-0:15.8.0*255")
INTERVAL_ENERGY = "1-0:1.29.0*255"
RELAY = "0-0:96.3.10*255"
RECHARGE = "0-0:94.96.21*255"
RECHARGE_TIME = "0-0:94.96.22*255"
BALANCE = "0-0:94.96.24*255"
BALANCE_TIME = "0-0:94.96.25*255"
MAX_DIGITS = 18
"""Characters of a number that are believed: no meter's or wallet's has more."""
_PER_KWH = {"Wh": Decimal("0.001"), "kWh": Decimal(1), "MWh": Decimal(1000)}
_CLOSED = {"closed", "1", "true", "connected"}
_OPEN = {"open", "0", "false", "disconnected"}


def find(capture: Capture, q: str) -> CaptureValue | None:
    """Return one quantity's value, also when it is missing; None where the capture has none that is believed."""
    return next((v for n, v in enumerate(capture.values) if v.q == q and not capture.is_doubted(n)), None)


def _decimal(value: CaptureValue | None) -> Decimal | None:
    """Return the number, or None: also for one longer than any meter's or wallet's."""
    if value is None or value.value is None or len(value.value) > MAX_DIGITS:
        return None
    return Decimal(value.value)


def _kwh(value: CaptureValue | None) -> Decimal | None:
    number = _decimal(value)
    if value is None or number is None or value.unit not in _PER_KWH:
        return None
    return number * _PER_KWH[value.unit]


def energy(capture: Capture) -> Decimal | None:
    """Return the import register in kWh, else the total register; None when missing or in an unknown unit."""
    return next((kwh for q in ENERGY if (kwh := _kwh(find(capture, q))) is not None), None)


def interval_energy(capture: Capture) -> Decimal | None:
    """Return the energy of a stored interval in kWh."""
    return _kwh(find(capture, INTERVAL_ENERGY))


def rupees(capture: Capture, q: str = BALANCE) -> Decimal | None:
    """Return an amount of money in rupees, None when missing."""
    return _decimal(find(capture, q))


def moment(capture: Capture, q: str) -> datetime | None:
    """Return a quantity that is an instant, None when missing."""
    value = find(capture, q)
    return None if value is None else value.instant


def relay(capture: Capture) -> str | None:
    """Return `closed` or `open` as the contact was seen; None when this capture does not tell."""
    value = find(capture, RELAY)
    if value is None:
        return None
    state = (value.text or value.value or value.bits or "").strip().lower()
    return "closed" if state in _CLOSED else "open" if state in _OPEN else None

"""How often codes may be asked for and tried: by device with a growing wait, by number in turns, by address coarsely.

A number is its owner's, so a stranger who asks for it must not keep him out: a device that proved the number's
mobile before has a budget of its own, and of the strangers' turns one address gets a part only, the next turn
being kept for whoever waits. An address has thousands of households behind it where the mobile operator shares
addresses, so it only bounds what one sender can do, and devices that are known do not count.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gateway.central.portal.limits import FairTurns, GrowingDelay, SlidingLimit
from gateway.central.portal.otp import ACCOUNT_WINDOW, CODES_PER_ACCOUNT, CODES_PER_ADDRESS

ASKS_PER_DEVICE = 5
"""Numbers that one device may ask about before it waits (users.md A-03)."""
ASK_WAIT = timedelta(minutes=15)
MAX_ASK_WAIT = timedelta(hours=1)
TRIES_PER_DEVICE = 10
"""Wrong codes of one device before it waits; a code has five."""
TRY_WAIT = timedelta(minutes=1)
MAX_TRY_WAIT = timedelta(minutes=30)
RESEND_WAIT = timedelta(minutes=1)
"""An SMS that is not there after it may be asked for again; the wait doubles each time."""
MAX_RESEND_WAIT = timedelta(minutes=10)
ADDRESS_WINDOW = timedelta(minutes=15)
ASKS_PER_ADDRESS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One wish for a code: who asks, and for which number; `known` when the device proved the number before."""

    number: str
    device: str
    address: str
    known: bool


@dataclass(slots=True)
class AskingLimits:
    """The limits of one portal. Nothing in them depends on whether a number exists."""

    asks_per_address: int = ASKS_PER_ADDRESS
    tries: GrowingDelay = field(
        default_factory=lambda: GrowingDelay(TRIES_PER_DEVICE, TRY_WAIT, MAX_TRY_WAIT)
    )
    resends: GrowingDelay = field(default_factory=lambda: GrowingDelay(1, RESEND_WAIT, MAX_RESEND_WAIT))
    _devices: GrowingDelay = field(
        default_factory=lambda: GrowingDelay(ASKS_PER_DEVICE, ASK_WAIT, MAX_ASK_WAIT)
    )
    _numbers: FairTurns = field(
        default_factory=lambda: FairTurns(CODES_PER_ACCOUNT, ACCOUNT_WINDOW, each=CODES_PER_ADDRESS)
    )
    _known: SlidingLimit = field(default_factory=lambda: SlidingLimit(CODES_PER_ACCOUNT, ACCOUNT_WINDOW))
    _addresses: SlidingLimit = field(init=False)

    def __post_init__(self) -> None:
        self._addresses = SlidingLimit(self.asks_per_address, ADDRESS_WINDOW)

    def ask(self, ask: Ask, now: datetime) -> timedelta | None:
        """Count a wish for a code: None when it is allowed, else how long to wait; a refused one is not counted."""
        number = hashlib.sha256(ask.number.encode()).hexdigest()
        waits: list[timedelta | None] = [self._devices.left(ask.device, now)]
        counted: list[Callable[[], object]] = [lambda: self._devices.hit(ask.device, now)]
        if ask.known:
            own = f"{number}|{ask.device}"
            waits.append(self._known.left(own, now))
            counted.append(lambda: self._known.hit(own, now))
        else:
            waits.append(self._numbers.left(number, ask.address, now))
            waits.append(self._addresses.left(ask.address, now))
            counted.append(lambda: self._numbers.take(number, ask.address, now))
            counted.append(lambda: self._addresses.hit(ask.address, now))
        longest = max((wait for wait in waits if wait is not None), default=None)
        if longest is None:
            for count in counted:
                count()
        return longest

    def succeeded(self, device: str) -> None:
        """Let a device that proved a mobile begin anew."""
        self._devices.forget(device)
        self.tries.forget(device)

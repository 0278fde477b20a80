"""One-time codes that prove control of a registered mobile: made, sent, checked once, forgotten.

Nothing here tells a caller whether an account exists: `begin` and `check` answer alike for both.
Codes are kept in memory only, as keyed hashes; a restart forgets them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from gateway.central.people.contacts import Contact
from gateway.central.people.verification import ENDING, may_have_whole_number
from gateway.central.portal.limits import FairTurns, SlidingLimit
from protocols.session import Clock

CODE_DIGITS = 6
CODE_LIFETIME = timedelta(minutes=5)
CODE_TRIES = 5
"""Wrong codes allowed for each code sent: five of a million leave a guesser one chance in 200,000."""
CODES_PER_ACCOUNT = 3
"""Messages in ACCOUNT_WINDOW that strangers' devices may cause together, and that one known device may."""
CODES_PER_ADDRESS = 2
"""Of them at most so many from one address, so that one stranger leaves a turn to the owner."""
ACCOUNT_WINDOW = timedelta(hours=1)
MAX_CHALLENGES = 10_000
"""Logins in memory for which no code was sent; beyond it the oldest is forgotten."""
MAX_ISSUED = 100_000
"""Those with a code count apart: a flood of numbers that are nobody's pushes out no code that was sent."""


class SendKind(StrEnum):
    """What is sent: a code, the new number, or that the mobile must be verified again (nothing secret in it)."""

    CODE = "code"
    NUMBER = "number"
    REVERIFY = "reverify"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeMessage:
    """One message to one contact. `ending` is the last four characters of the account's number.

    `number` is the whole new number: in a message of that kind only, to a verified mobile only.
    """

    kind: SendKind
    contact: Contact
    ending: str
    code: str = ""
    number: str = ""


class CodeSender(Protocol):
    """How messages reach a mobile: by the queue of all messages (`central.telling`)."""

    async def send(self, message: CodeMessage) -> None:
        """Hand the message over; GatewayError when it cannot be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks for a code. `known_for` are the accounts whose mobile this device proved before."""

    address: str
    device: str
    known_for: Container[str] = ()


@dataclass(slots=True)
class _Challenge:
    expires: datetime
    tries: int = CODE_TRIES
    codes: list[tuple[datetime, bytes]] = field(default_factory=list)
    account_id: str | None = None


class OneTimeCodes:
    """Challenges in memory. Give it a real clock: a fast simulated one would expire codes at once.

    A code belongs to the challenge, and so to the browser, that asked for it: nobody else's wrong tries use
    it up, and asking again leaves those that came before valid for their own life.
    """

    def __init__(self, *, clock: Clock, sender: CodeSender) -> None:
        self._clock = clock
        self._sender = sender
        self._key = secrets.token_bytes(32)
        self._opened: OrderedDict[str, _Challenge] = OrderedDict()
        self._issued: OrderedDict[str, _Challenge] = OrderedDict()
        self._strangers = FairTurns(CODES_PER_ACCOUNT, ACCOUNT_WINDOW, each=CODES_PER_ADDRESS)
        self._known = SlidingLimit(CODES_PER_ACCOUNT, ACCOUNT_WINDOW)

    def begin(self) -> str:
        """Open a challenge, known to the asking browser only; it stands for no account yet."""
        challenge = secrets.token_urlsafe(24)
        held = _Challenge(expires=self._clock.now() + CODE_LIFETIME)
        _put(self._opened, challenge, held, MAX_CHALLENGES)
        return challenge

    def again(self, challenge: str) -> str:
        """Return the challenge to send another code for: this one while it lives, else a new one."""
        held = self._find(challenge)
        if held is None:
            return self.begin()
        held.expires = self._clock.now() + CODE_LIFETIME
        return challenge

    async def issue(
        self, challenge: str, contact: Contact, *, number: str | None, legacy: str | None, asker: Asker
    ) -> bool:
        """Make a code for the contact's account and send it; says whether a code was sent.

        Silent for the asker in every case: a mobile that was not verified in the last 12 months gets a
        notice with at most the end of the old number (users.md A-16), an account beyond three messages an
        hour gets nothing (A-03). A device that proved this mobile before has three of its own: strangers
        cannot use them up. `number` and `legacy` are the account's new and old number.
        """
        now = self._clock.now()
        held = self._find(challenge)
        if held is None or self._refuse(contact.account_id, asker, now):
            return False
        if not may_have_whole_number(contact.verified_at, now):
            ending = (legacy or "")[-ENDING:]
            await self._sender.send(CodeMessage(kind=SendKind.REVERIFY, contact=contact, ending=ending))
            return False
        if held.account_id != contact.account_id:  # a number that was given to another account meanwhile
            held.codes.clear()
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
        held.codes.append((now + CODE_LIFETIME, self._digest(challenge, code)))
        held.account_id = contact.account_id
        held.tries = CODE_TRIES
        self._opened.pop(challenge, None)
        _put(self._issued, challenge, held, MAX_ISSUED)
        ending = (number or legacy or "")[-ENDING:]
        await self._sender.send(CodeMessage(kind=SendKind.CODE, contact=contact, ending=ending, code=code))
        return True

    async def tell_number(
        self, contact: Contact, *, number: str | None, legacy: str | None, asker: Asker
    ) -> bool:
        """Send the account's new number to its mobile; says whether the number was sent.

        The whole number goes to a mobile that was verified in the last 12 months, any other gets the notice of
        `issue`. Codes and numbers share the account's messages an hour. An account without a new number gets nothing.
        """
        now = self._clock.now()
        if number is None or self._refuse(contact.account_id, asker, now):
            return False
        ending = (legacy or "")[-ENDING:]
        if not may_have_whole_number(contact.verified_at, now):
            await self._sender.send(CodeMessage(kind=SendKind.REVERIFY, contact=contact, ending=ending))
            return False
        await self._sender.send(
            CodeMessage(kind=SendKind.NUMBER, contact=contact, ending=ending, number=number)
        )
        return True

    def check(self, challenge: str, code: str) -> str | None:
        """Return the account whose code this is, once; None for wrong, expired, used up or unknown alike."""
        given = self._digest(challenge, code)
        held = self._find(challenge)
        if held is None or held.tries <= 0:
            return None
        held.tries -= 1
        now = self._clock.now()
        # Where no code was sent one is compared all the same: the steps do not tell whose number it was.
        codes = held.codes or [(now, bytes(len(given)))]
        right = [hmac.compare_digest(given, digest) and now < until for until, digest in codes]
        if not any(right):
            return None
        del self._issued[challenge]
        return held.account_id

    def _find(self, challenge: str) -> _Challenge | None:
        held = self._issued.get(challenge) or self._opened.get(challenge)
        return held if held is not None and self._clock.now() < held.expires else None

    def _refuse(self, account_id: str, asker: Asker, now: datetime) -> bool:
        if account_id in asker.known_for:
            return self._known.hit(f"{account_id}|{asker.device}", now) is not None
        return self._strangers.take(account_id, asker.address, now) is not None

    def _digest(self, challenge: str, code: str) -> bytes:
        return hmac.digest(self._key, f"{challenge}|{code}".encode(), hashlib.sha256)


def _put(table: OrderedDict[str, _Challenge], challenge: str, held: _Challenge, most: int) -> None:
    table[challenge] = held
    table.move_to_end(challenge)
    if len(table) > most:
        table.popitem(last=False)

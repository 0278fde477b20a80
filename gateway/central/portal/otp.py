"""One-time codes that prove control of a registered mobile: made, sent, checked once, forgotten.

Nothing here tells a caller whether an account exists: `begin` and `check` answer alike for both.
Codes are kept in memory only, as keyed hashes; a restart forgets them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from gateway.central.portal.contacts import Contact
from gateway.central.portal.limits import SlidingLimit
from protocols.session import Clock

CODE_DIGITS = 6
CODE_LIFETIME = timedelta(minutes=5)
CODE_TRIES = 5
"""Wrong codes allowed: five of a million leave a guesser one chance in 200,000."""
ENDING = 4
"""Characters of a number that a message may show."""
CODES_PER_ACCOUNT = 3
ACCOUNT_WINDOW = timedelta(hours=1)
VERIFIED_FOR = timedelta(days=365)
"""After it a mobile may be a stranger's: operators give numbers out again (users.md §6 row 70)."""
MAX_CHALLENGES = 10_000
"""Open logins in memory; beyond it the oldest is forgotten."""


class SendKind(StrEnum):
    """What is sent: a code, or the notice that the mobile must be verified again (nothing secret in it)."""

    CODE = "code"
    REVERIFY = "reverify"


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeMessage:
    """One message for one mobile. `ending` is the last four characters of the account's number."""

    kind: SendKind
    mobile: str
    ending: str
    code: str = ""


class CodeSender(Protocol):
    """How messages reach a mobile.

    There is no SMS adapter yet: one for a DLT-registered gateway (template ids, delivery reports) will
    implement this; until then only `ConsoleSender` exists, which reaches nobody's phone.
    """

    async def send(self, message: CodeMessage) -> None:
        """Hand the message over; GatewayError when it cannot be."""


class ConsoleSender:
    """Shows codes on this machine instead of sending them: for the demo and tests only."""

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    async def send(self, message: CodeMessage) -> None:
        if message.kind is SendKind.CODE:
            self._show(f"code for account ending {message.ending}: {message.code}")
        else:
            self._show(f"old number ending {message.ending}: mobile must be verified again, call 1912")


@dataclass(slots=True)
class _Challenge:
    expires: datetime
    tries: int = CODE_TRIES
    digest: bytes = b""
    account_id: str | None = None


class OneTimeCodes:
    """Challenges in memory. Give it a real clock: a fast simulated one would expire codes at once."""

    def __init__(self, *, clock: Clock, sender: CodeSender) -> None:
        self._clock = clock
        self._sender = sender
        self._key = secrets.token_bytes(32)
        self._challenges: OrderedDict[str, _Challenge] = OrderedDict()
        self._per_account = SlidingLimit(CODES_PER_ACCOUNT, ACCOUNT_WINDOW)

    def begin(self) -> str:
        """Open a challenge, known to the asking browser only; it stands for no account yet."""
        challenge = secrets.token_urlsafe(24)
        self._challenges[challenge] = _Challenge(expires=self._clock.now() + CODE_LIFETIME)
        while len(self._challenges) > MAX_CHALLENGES:
            self._challenges.popitem(last=False)
        return challenge

    async def issue(
        self, challenge: str, contact: Contact, *, number: str | None, legacy: str | None
    ) -> bool:
        """Make a code for the contact's account and send it; says whether a code was sent.

        Silent for the asker in every case: a mobile that was not verified in the last 12 months gets a
        notice with at most the end of the old number (users.md A-16), an account beyond three messages an
        hour gets nothing (A-03). `number` and `legacy` are the account's new and old number.
        """
        now = self._clock.now()
        held = self._challenges.get(challenge)
        if held is None or self._per_account.hit(contact.account_id, now) is not None:
            return False
        if contact.verified_at is None or now - contact.verified_at > VERIFIED_FOR:
            ending = (legacy or "")[-ENDING:]
            await self._sender.send(CodeMessage(kind=SendKind.REVERIFY, mobile=contact.mobile, ending=ending))
            return False
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"
        held.digest = self._digest(challenge, code)
        held.account_id = contact.account_id
        ending = (number or legacy or "")[-ENDING:]
        await self._sender.send(
            CodeMessage(kind=SendKind.CODE, mobile=contact.mobile, ending=ending, code=code)
        )
        return True

    def check(self, challenge: str, code: str) -> str | None:
        """Return the account whose code this is, once; None for wrong, expired, used up or unknown alike."""
        given = self._digest(challenge, code)
        held = self._challenges.get(challenge)
        if held is None or held.tries <= 0 or held.expires <= self._clock.now():
            return None
        held.tries -= 1
        if not hmac.compare_digest(given, held.digest):
            return None
        del self._challenges[challenge]
        return held.account_id

    def _digest(self, challenge: str, code: str) -> bytes:
        return hmac.digest(self._key, f"{challenge}|{code}".encode(), hashlib.sha256)

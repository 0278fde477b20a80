"""Templates, contacts and a provider on paper for tests of messages."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from gateway.central.people.contacts import Contact, ContactStore
from gateway.central.people.database import PeopleStore
from gateway.central.telling.lint import load_library
from gateway.central.telling.messages import Accepted, Handed, NewMessage, Outcome

NOON: Final = datetime(2026, 11, 30, 6, 30, tzinfo=UTC)
"""12:00 in India."""
NIGHT: Final = datetime(2026, 11, 30, 18, 0, tzinfo=UTC)
"""23:30 in India."""
LIBRARY: Final = load_library(None)
MOBILE: Final = "9876543210"
NOTICE: Final = {"old_ending": "XXXXX2345", "number": "1234567890"}
CODE: Final = {"code": "482913", "ending": "7890"}


def contact(
    store: PeopleStore, account: str = "acc-1", mobile: str = MOBILE, *, verified_days: int | None = 30
) -> Contact:
    """Add a contact, verified so many days before NOON; None: never."""
    at = None if verified_days is None else NOON - timedelta(days=verified_days)
    return ContactStore(store).add(
        account, mobile, by="clerk", source="counter", at=NOON - timedelta(days=400), verified_at=None
    ) if at is None else ContactStore(store).add(
        account, mobile, by="clerk", source="counter", at=NOON, verified_at=at
    )  # fmt: skip


def notice(to: Contact, key: str = "notice acc-1", **more: object) -> NewMessage:
    """Return the message that tells a new number."""
    given: dict[str, object] = {
        "template": "new-account-number",
        "contact_id": to.id,
        "values": NOTICE,
        "dedupe_key": key,
    }
    return NewMessage(**(given | more))  # type: ignore[arg-type]


def code(to: Contact, key: str = "code 1") -> NewMessage:
    """Return a one-time code."""
    return NewMessage(template="login-code", contact_id=to.id, values=CODE, dedupe_key=key)


class PaperProvider:
    """A provider that keeps what it was handed, and answers as it is told."""

    reports = True

    def __init__(self, answer: Callable[[Handed], Outcome] | None = None) -> None:
        self.got: list[Handed] = []
        self.answer = answer or (lambda message: Accepted(f"p-{message.id}-{message.attempt}"))

    async def hand(self, message: Handed) -> Outcome:
        self.got.append(message)
        return self.answer(message)

    async def close(self) -> None:
        pass

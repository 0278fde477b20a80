"""Who acts: somebody whose identity was proved, with roles; and what each role may do."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.errors import AccessDenied


class StaffRole(StrEnum):
    """What somebody is employed for."""

    CLERK = "clerk"
    APPROVER = "approver"
    OPERATOR = "operator"
    ENGINEER = "engineer"
    CARE = "care"


class Right(StrEnum):
    """What can be allowed; the text says it in an error."""

    SEE = "look into the directory"
    CHANGE = "change the directory"
    FIT = "install and remove meters"
    APPROVE = "approve what somebody else asked for"
    FLEET = "see and run the gateways"
    CONSUMERS = "see what consumers have told of themselves"
    AUDIT = "read the audit trail"


ALLOWED: Final = {
    StaffRole.CLERK: frozenset({Right.SEE, Right.CHANGE, Right.FIT, Right.CONSUMERS}),
    StaffRole.APPROVER: frozenset({Right.SEE, Right.APPROVE, Right.AUDIT}),
    StaffRole.OPERATOR: frozenset({Right.SEE, Right.FLEET, Right.AUDIT}),
    StaffRole.ENGINEER: frozenset({Right.SEE, Right.FIT, Right.FLEET}),
    StaffRole.CARE: frozenset({Right.SEE, Right.CONSUMERS}),
}
"""Nobody who only changes may approve, and nobody who only approves may change: two people by their roles."""


class Proof(StrEnum):
    """How an identity was proved."""

    SESSION = "session"
    TOKEN = "token"  # noqa: S105  # the word for it, no secret
    CERTIFICATE = "certificate"
    SIGNATURE = "signature"
    BOX = "box"
    """By the kernel: whoever runs a command at a central that has no staff accounts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Somebody who was proved to be `name`; `source` is where from (an address, a terminal)."""

    name: str
    roles: frozenset[StaffRole]
    proof: Proof
    source: str

    def may(self, right: Right) -> bool:
        """Say whether any of the actor's roles allows it."""
        return any(right in ALLOWED[role] for role in self.roles)

    def need(self, *rights: Right) -> None:
        """Raise AccessDenied unless one of these is allowed, or none is asked for; it names the roles that would be."""
        if not rights or any(self.may(right) for right in rights):
            return
        wanted = [role for role in StaffRole if ALLOWED[role] & set(rights)]
        held = roles_text(self.roles) or "no role"
        raise AccessDenied(f"{self.name} ({held}) may not {rights[0]}: that is for {' or '.join(wanted)}")


def roles_text(roles: Iterable[StaffRole]) -> str:
    """Return roles as they are kept and shown: `clerk,approver`."""
    held = set(roles)
    return ",".join(role for role in StaffRole if role in held)


def roles_of(text: str) -> frozenset[StaffRole]:
    """Return the roles that `roles_text` wrote; one that this version does not know allows nothing."""
    known = {role.value for role in StaffRole}
    return frozenset(StaffRole(one) for one in text.split(",") if one in known)

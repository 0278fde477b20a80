"""Change sets as the API and messages of other systems say them: the forms of `mapping.kinds`, all or none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from gateway.central.office.change_errors import Fault
from mapping.change_sets import Accounts
from mapping.changes import Change
from mapping.errors import ChangeRefused, NumberRefused
from mapping.kinds import AnyForm
from mapping.snapshot import DirectorySnapshot

MAX_CHANGES: Final = 10_000
"""In one change set over the API; larger ones are files (`directory import`, `directory rekey plan`)."""
MAX_REFERENCE: Final = 100
MAX_FAULTS: Final = 20
"""Refused changes that one answer names."""
Fingerprint = Annotated[str, Field(pattern=r"^[0-9]{1,10}-[0-9a-f]{32}$")]


class Document(BaseModel):
    """Base of all documents of the API: what is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _plain(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("holds invisible signs, or white space at an end")
    return text


class ChangeSetRequest(Document):
    """A change set that is asked for: all of its changes are applied, or none.

    With `dry_run` nothing is changed: the answer says what would be, and its `fingerprint`. With a `fingerprint`
    exactly what was shown is applied, or nothing. `reference` is the sender's own, an order's number for example; it
    stands in the directory's history for ever, so it names no person.
    """

    changes: Annotated[tuple[AnyForm, ...], Field(min_length=1, max_length=MAX_CHANGES)]
    dry_run: Annotated[bool, Field(strict=True)] = False
    fingerprint: Fingerprint | None = None
    reference: (
        Annotated[str, Field(min_length=1, max_length=MAX_REFERENCE), AfterValidator(_plain)] | None
    ) = None


def written(forms: Sequence[AnyForm]) -> str:
    """Return forms as they are kept: one JSON array, the same for the same forms."""
    return "[" + ",".join(one.model_dump_json(exclude_unset=True) for one in forms) + "]"


def changes_by_place(
    forms: Sequence[AnyForm], snapshot: DirectorySnapshot
) -> tuple[list[tuple[int, Change]], list[Fault]]:
    """Return the changes that forms stand for in a directory, each with its form's place from 0; and the faults.

    A fault is a form that names what is not there; at most 20 are told.
    """
    accounts = Accounts(snapshot)
    found: list[tuple[int, Change]] = []
    faults: list[Fault] = []
    for place, form in enumerate(forms):
        try:
            found += [(place, change) for change in form.change(accounts)]
        except (ChangeRefused, NumberRefused) as error:
            faults.append(Fault(place, error.code, str(error)))
            if len(faults) >= MAX_FAULTS:
                break
    return found, faults

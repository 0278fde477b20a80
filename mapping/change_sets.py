"""Whole sets of changes as JSON, of the forms of `mapping.kinds`: read with the directory at hand, and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError

from mapping.account import new_account_id
from mapping.changes import Change
from mapping.errors import ChangeRefused, NumberRefused
from mapping.kinds import KINDS, AnyForm, Form, OfAccount, numbers_of
from mapping.snapshot import DirectorySnapshot

MAX_CHANGES: Final = 100_000
"""Changes in one set that comes as JSON; a city's re-key comes as a file."""
_FORMS: TypeAdapter[list[AnyForm]] = TypeAdapter(Annotated[list[AnyForm], Field(max_length=MAX_CHANGES)])
_MADE: Final[dict[type, type[Form]]] = {
    form.makes: form for form in KINDS.values() if isinstance(form.makes, type)
}


class Accounts:
    """Finds the accounts that forms name in a directory; `new_id` makes the id of one that is to be made.

    Ids of our `own` are not looked for: a change set that was kept may make their account itself.
    """

    def __init__(
        self, snapshot: DirectorySnapshot, new_id: Callable[[], str] = new_account_id, *, own: bool = False
    ) -> None:
        self._snapshot = snapshot
        self._own = own
        self.new_account = new_id

    def account(self, given: OfAccount) -> str:
        """Return the id of an account that is there; ChangeRefused (ACCOUNT) says why there is none."""
        numbers = numbers_of(given)
        if given.account_id is not None:
            if numbers:
                raise ChangeRefused("ACCOUNT", "name the account by its id or by its numbers, not by both")
            if not self._own and not (
                self._snapshot.namings(given.account_id) or self._snapshot.usage_points_of(given.account_id)
            ):
                raise ChangeRefused("ACCOUNT", f"no account has the id {given.account_id!r}")
            return given.account_id
        if not numbers:
            raise ChangeRefused("ACCOUNT", "name the account: account_id, account_number or legacy_number")
        owners: dict[str | None, str] = {}
        for kind, number in numbers.items():
            owners[self._snapshot.account_by_number(kind, number)] = f"{kind.replace('_', ' ')} {number}"
        if None in owners:
            raise ChangeRefused("ACCOUNT", f"no account has the {owners[None]}")
        if len(owners) > 1:
            raise ChangeRefused("ACCOUNT", f"{' and '.join(owners.values())} belong to two accounts")
        [owner] = owners
        assert owner is not None
        return owner


def read_forms(given: object) -> list[AnyForm]:
    """Return the forms of a JSON list (text or parsed); ChangeRefused (FORM) names place and mistake."""
    try:
        if isinstance(given, str | bytes):
            return _FORMS.validate_json(given)
        return _FORMS.validate_python(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ChangeRefused("FORM", f"{_place(first['loc'])}: {first['msg']}{more}") from error


def changes_of(
    forms: Iterable[Form],
    snapshot: DirectorySnapshot,
    new_id: Callable[[], str] = new_account_id,
    *,
    own: bool = False,
) -> list[Change]:
    """Return the changes that forms stand for in this directory; ChangeRefused names the form by its place, from 1.

    `own` as `Accounts` takes it.
    """
    accounts = Accounts(snapshot, new_id, own=own)
    found: list[Change] = []
    for number, form in enumerate(forms, 1):
        try:
            found += form.change(accounts)
        except (ChangeRefused, NumberRefused) as error:
            raise ChangeRefused(error.code, f"change {number}: {error}") from error
    return found


def written(changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Return changes as JSON values; `read_forms` and `changes_of` lead back to the same changes."""
    forms = []
    for change in changes:
        form = _MADE[type(change)]
        members = {
            name: value for name, value in form.of(change).items() if value is not None or name in _NULLS
        }
        kind = form.model_fields["kind"].default
        forms.append(form.model_validate({**members, "kind": kind}))
    return [form.model_dump(mode="json", exclude_unset=True) for form in forms]


_NULLS: Final = frozenset({"number", "payment_mode"})
"""Members of which null says something."""


def _place(loc: tuple[int | str, ...]) -> str:
    """Return where in the list a mistake stands: `change 3: multiplier`."""
    if not loc:
        return "the list of changes"
    first, *rest = loc
    named = [str(part) for part in rest if part not in KINDS]
    place = f"change {first + 1}" if isinstance(first, int) else str(first)
    return f"{place}: {'.'.join(named)}" if named else place

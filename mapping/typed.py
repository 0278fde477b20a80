"""A number as a person types, sends or keys it in, and whose it is: one reading for pages, messages and calls."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from mapping.account import AccountNumber, LegacyNumber
from mapping.characters import MAX_INPUT, folded
from mapping.checkchar import is_checked
from mapping.directory import NumberKind
from mapping.errors import NumberRefused
from mapping.snapshot import DirectorySnapshot

MIN_KEY, MAX_KEY = 4, 32
"""Characters of a plausible number, without separators."""
_WRAPPERS = "\"'“”‘’=₹"


@dataclass(frozen=True, slots=True)
class TypedNumber:
    """One number in the two forms it is looked for by.

    `exact` has its separators, `key` has not: digits of any script are ASCII, letters capitals, and what
    nobody sees (zero-width and direction marks) is gone from both.

    >>> TypedNumber.of(" ke‑००\u200b 01 ")
    TypedNumber(exact='KE-00 01', key='KE0001')
    """

    exact: str
    key: str

    @classmethod
    def of(cls, text: str) -> TypedNumber:
        """Bring what was typed to one form. Never fails: what cannot be a number is not `plausible`."""
        plain = []
        for character in unicodedata.normalize("NFKC", text[:MAX_INPUT]):
            category = unicodedata.category(character)
            if character.isdecimal():
                plain.append(str(unicodedata.decimal(character)))
            elif character.isspace():
                plain.append(" ")
            elif category == "Pd" or character == "\u2212":
                plain.append("-")
            elif category != "Cf":
                plain.append(character.upper())
        exact = " ".join("".join(plain).strip(_WRAPPERS + " -").split())
        return cls(exact, folded(exact))

    @property
    def shown(self) -> str:
        """What is shown again: ten digits alone, whatever stood between them; else as it was typed."""
        return self.key if len(self.key) == 10 and self.key.isdigit() else self.exact

    @property
    def plausible(self) -> bool:
        """Whether it can be a number at all; it says nothing about whether there is such a one."""
        return self.key.isascii() and self.key.isalnum() and MIN_KEY <= len(self.key) <= MAX_KEY


def account_of(
    directory: DirectorySnapshot, typed: TypedNumber, kind: NumberKind | None = None
) -> str | None:
    """Return the id of the account that a typed number names; None when it is unknown, or may be two.

    A legacy number that stands in the directory with separators is found without them and the other way round,
    unless two differ by nothing else: then only the one written exactly so. Eleven digits are a new number with its
    check character where the two belong together. With `kind` only numbers of that kind are looked at.
    """
    found: set[str | None] = set()
    if kind in (None, NumberKind.ACCOUNT):
        number = _account_number(typed)
        if number is not None:
            found.add(directory.account_by_number(NumberKind.ACCOUNT, number))
    if kind in (None, NumberKind.LEGACY):
        found.add(_by_legacy(directory, typed))
    found.discard(None)
    return found.pop() if len(found) == 1 else None


def _account_number(typed: TypedNumber) -> str | None:
    for text in (typed.exact, typed.key):
        try:
            return AccountNumber.parse(text).number.text
        except NumberRefused:
            continue
    return typed.key[:10] if is_checked(typed.key) else None


def _by_legacy(directory: DirectorySnapshot, typed: TypedNumber) -> str | None:
    try:
        owner = directory.account_by_number(NumberKind.LEGACY, LegacyNumber(typed.exact).text)
    except NumberRefused:
        owner = None
    if owner is not None:
        return owner
    alike = directory.legacy_alike(typed.key)
    return alike[0] if len(alike) == 1 else None

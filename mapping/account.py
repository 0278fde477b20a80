"""The three kinds of number: account number (10 digits), legacy number, meter; parse, repair, refuse."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from mapping.characters import (
    MAX_INPUT,
    Repair,
    ascii_digits,
    refuse_invisible,
    strip_outside,
    strip_wrappers,
)
from mapping.errors import NumberRefused

NO_PREFIXES: frozenset[str] = frozenset()
"""Of the codes of supply companies none may stand before the 10 digits, unless it is said (row 10)."""

_TEN = re.compile(r"[0-9]{10}")
_SCIENTIFIC = re.compile(r"[+-]?([0-9]+)(?:[.,]([0-9]*))?[eE]\+?([0-9]{1,3})")
_POINT_ZERO = re.compile(r"([0-9][0-9,]*)\.0+")
_THOUSANDS = re.compile(r"[0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3}")
_GROUPED = re.compile(r"[0-9]{4}([ -])[0-9]{3}\1[0-9]{3}")
_PREFIXED = re.compile(r"([A-Za-z]{2,8})([0-9]{10})")
_LOOKALIKES = str.maketrans({"O": "0", "o": "0", "l": "1", "I": "1", "|": "1", "S": "5", "s": "5", "B": "8"})
_LEGACY = re.compile(r"[A-Z0-9](?:[A-Z0-9 ./_-]{0,30}[A-Z0-9])?")
_MANUFACTURER = re.compile(r"[A-Z0-9]{1,16}")
_SERIAL = re.compile(r"[A-Z0-9._]{1,32}")
_METER = re.compile(r"[A-Z0-9]{1,16}:[A-Z0-9._]{1,32}")

N = TypeVar("N")


class NumberSource(StrEnum):
    """Where a number was given: typed by a person who can be asked, or in a file of many."""

    UI = "ui"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class ParsedNumber(Generic[N]):
    """A number and what was repaired on the way to it (empty when it was given cleanly)."""

    number: N
    repairs: tuple[Repair, ...] = ()


@dataclass(frozen=True, slots=True, order=True)
class AccountNumber:
    """The new account number: exactly 10 ASCII digits; never an integer, so leading zeros stay.

    Made from exact text, or by `parse` from what a person typed or a file holds. Raises NumberRefused, with a
    stable `code`, for anything else.

    >>> AccountNumber.parse(" १२३४ 567 890 ").number
    AccountNumber(text='1234567890')
    >>> AccountNumber("0123456789").grouped()
    '0123 456 789'
    """

    text: str

    def __post_init__(self) -> None:
        if _TEN.fullmatch(self.text) is None:
            raise NumberRefused(
                f"LENGTH_{len(self.text)}" if self.text.isascii() and self.text.isdigit() else "NOT_DIGITS",
                "an account number has exactly 10 digits 0-9",
                given=self.text[:MAX_INPUT],
            )

    @classmethod
    def parse(
        cls,
        text: str,
        *,
        source: NumberSource = NumberSource.UI,
        exists: Callable[[str], bool] | None = None,
        prefixes: frozenset[str] = NO_PREFIXES,
    ) -> ParsedNumber[AccountNumber]:
        """Accept, repair from the documented list, or refuse (users.md §6 rows 1-12).

        `exists` tells whether a 10-digit number is in the directory: only then is a lost leading
        zero suggested. `prefixes` are the company codes that may stand before the digits; every other is
        refused. Raises NumberRefused with a stable code; never guesses.
        """
        if type(text) is str and _TEN.fullmatch(text):
            return ParsedNumber(cls(text))
        return _parse_account(text, source, exists, prefixes)

    def grouped(self) -> str:
        """Return it for reading aloud: 4-3-3 digits."""
        return f"{self.text[:4]} {self.text[4:7]} {self.text[7:]}"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class LegacyNumber:
    """Whatever identified the consumer before the re-key: letters, digits and ` ./_-`, at most 32.

    Made from exact text, or by `parse` from what a person typed or a file holds. Raises NumberRefused, with a
    stable `code`, for anything else.

    >>> LegacyNumber.parse(" ke0012345 ").number.text
    'KE0012345'
    """

    text: str

    def __post_init__(self) -> None:
        if _LEGACY.fullmatch(self.text) is None:
            raise NumberRefused(
                "LEGACY_FORMAT",
                "a legacy number has 1 to 32 letters, digits or inner ' . / _ -'",
                given=self.text[:MAX_INPUT],
            )

    @classmethod
    def parse(cls, text: str, *, source: NumberSource = NumberSource.UI) -> ParsedNumber[LegacyNumber]:
        """Trim, unwrap, write digits in ASCII and letters in capitals; NumberRefused otherwise."""
        if _LEGACY.fullmatch(text):
            return ParsedNumber(cls(text))
        text, repairs = _clean(text, source)
        _refuse_scientific(text, text)
        if text != text.upper():
            text, repairs = text.upper(), (*repairs, Repair.CASE)
        return ParsedNumber(cls(text), repairs)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, order=True)
class MeterId:
    """A meter: manufacturer code and canonical serial (capitals, without spaces and hyphens; row 14).

    Made from exact text, or by `parse` from what a person typed. Raises NumberRefused (`METER_FORMAT`) for
    anything else. Two makes may use one serial: only both together name a meter.

    >>> str(MeterId.parse(" gen : k-7788 12"))
    'GEN:K778812'
    """

    manufacturer: str
    serial: str

    def __post_init__(self) -> None:
        if not (_MANUFACTURER.fullmatch(self.manufacturer) and _SERIAL.fullmatch(self.serial)):
            raise NumberRefused(
                "METER_FORMAT",
                "a meter is written MAKE:SERIAL with letters and digits, for example GEN:12345678",
                given=f"{self.manufacturer}:{self.serial}"[:MAX_INPUT],
            )

    @classmethod
    def parse(cls, text: str) -> MeterId:
        """Read `GEN:12345678`; ` gen : k-7788 12` is the same meter as `GEN:K778812`."""
        if is_canonical_meter(text):
            return cls(*text.split(":"))
        cleaned, _ = _clean(text, NumberSource.UI)
        make, colon, serial = cleaned.partition(":")
        if not colon:
            raise NumberRefused("METER_FORMAT", "write the make before the serial: MAKE:SERIAL", given=text)
        return cls(make.strip().upper(), re.sub(r"[ \t-]+", "", serial).upper())

    def __str__(self) -> str:
        return f"{self.manufacturer}:{self.serial}"


def new_account_id() -> str:
    """Return an opaque account id; it says nothing about the account."""
    return f"acc-{secrets.token_hex(8)}"


def is_canonical_meter(text: str) -> bool:
    """Tell whether `text` is a meter in the canonical form that the directory stores."""
    return _METER.fullmatch(text) is not None


def _clean(text: str, source: NumberSource) -> tuple[str, tuple[Repair, ...]]:
    if len(text) > MAX_INPUT:
        raise NumberRefused(
            "TOO_LONG", f"longer than {MAX_INPUT} characters: not a number", given=text[:MAX_INPUT]
        )
    given = text
    text, outside = strip_outside(text)
    refuse_invisible(given, len(given) - len(given.lstrip("\ufeff \t\r\n\u00a0")), text)
    text, wrappers = strip_wrappers(text)
    if "\u00a0" in text:
        text, wrappers = text.replace("\u00a0", " "), (*wrappers, Repair.NBSP)
    text, scripts = ascii_digits(text)
    if source is NumberSource.FILE and (Repair.MIXED_SCRIPT in scripts or Repair.FULL_WIDTH in scripts):
        raise NumberRefused(
            "MIXED_SCRIPT",
            "digits of several scripts or full-width digits: usually copying damage; check it at the source",
            given=given,
            suggestion=text if _TEN.fullmatch(text) else None,
        )
    return text, tuple(dict.fromkeys((*outside, *wrappers, *scripts)))


def _refuse_scientific(text: str, given: str) -> None:
    match = _SCIENTIFIC.fullmatch(text)
    if match is None:
        return
    digits = match[1] + (match[2] or "")
    exponent = int(match[3])
    zeros = exponent + len(match[1]) - len(digits)
    if len(digits) >= 9 and 0 <= zeros <= 1 and len(digits) + zeros == 10:
        raise NumberRefused(
            "EXCEL_SCIENTIFIC_FULL",
            "a spreadsheet wrote it with an exponent; all digits seem to survive: "
            "confirm it with another matching field",
            given=given,
            suggestion=digits + "0" * zeros,
        )
    lost = f"; it stands for {10 ** min(max(zeros, 0), 18):,} possible numbers" if zeros > 0 else ""
    raise NumberRefused(
        "EXCEL_SCIENTIFIC",
        f"a spreadsheet wrote it with an exponent and lost digits{lost}: export the column as text",
        given=given,
    )


def _parse_account(
    given: str, source: NumberSource, exists: Callable[[str], bool] | None, prefixes: frozenset[str]
) -> ParsedNumber[AccountNumber]:
    text, repairs = _clean(given, source)
    _refuse_scientific(text, given)
    if match := _POINT_ZERO.fullmatch(text):
        text, repairs = match[1], (*repairs, Repair.POINT_ZERO)
    if _THOUSANDS.fullmatch(text):
        text, repairs = text.replace(",", ""), (*repairs, Repair.THOUSANDS)
    elif _GROUPED.fullmatch(text):
        text, repairs = text.replace(" ", "").replace("-", ""), (*repairs, Repair.GROUPING)
    elif match := _PREFIXED.fullmatch(text):
        if match[1].upper() not in prefixes:
            raise NumberRefused(
                "PREFIX", f"the company code {match[1].upper()} is not one of ours", given=given
            )
        text, repairs = match[2], (*repairs, Repair.PREFIX)
    _refuse_not_ten(text, given, exists)
    return ParsedNumber(AccountNumber(text), repairs)


def _refuse_not_ten(text: str, given: str, exists: Callable[[str], bool] | None) -> None:
    for position, char in enumerate(text, 1):
        if char in "0123456789":
            continue
        alike = text.translate(_LOOKALIKES)
        if alike.isascii() and alike.isdigit():
            raise NumberRefused(
                "LOOKALIKE",
                f"{char!r} at position {position} is a letter that looks like a digit",
                given=given,
                suggestion=alike if len(alike) == 10 else None,
                position=given.find(char) + 1,
            )
        raise NumberRefused(
            "NOT_DIGITS",
            f"{char!r} at position {position} is not a digit 0-9",
            given=given,
            position=given.find(char) + 1 or None,
        )
    if len(text) == 10:
        return
    padded = "0" + text
    offer = padded if len(text) == 9 and exists is not None and exists(padded) else None
    raise NumberRefused(
        f"LENGTH_{len(text)}",
        f"an account number has 10 digits, this has {len(text)}",
        given=given,
        suggestion=offer,
    )

"""Verhoeff check character for numbers printed on our own stickers (users.md §6 row 13)."""

from __future__ import annotations

from mapping.account import AccountNumber


def check_character(number: AccountNumber) -> str:
    """Return the digit that catches every single wrong digit and every swap of neighbours."""
    return verhoeff(number.text)


def is_checked(text: str) -> bool:
    """Tell whether 11 digits (number and check character) belong together."""
    if len(text) != 11 or not (text.isascii() and text.isdigit()):
        return False
    return check_character(AccountNumber(text[:10])) == text[10]


def verhoeff(digits: str) -> str:
    """Return the Verhoeff check digit of any string of ASCII digits."""
    check = 0
    for position, digit in enumerate(reversed(digits), 1):
        check = _times(check, _permuted(position, int(digit)))
    return str(_inverse(check))


def _times(a: int, b: int) -> int:
    """Multiply in the dihedral group of the pentagon: 0-4 turns, 5-9 mirrored turns."""
    turn = (a + b) % 5 if a < 5 else (a - b) % 5
    return turn + 5 if (a < 5) != (b < 5) else turn


def _inverse(a: int) -> int:
    return (5 - a) % 5 if a < 5 else a


_STEP = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _permuted(position: int, digit: int) -> int:
    for _ in range(position % 8):
        digit = _STEP[digit]
    return digit

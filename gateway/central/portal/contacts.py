"""What the pages know of contacts, and the one form that a typed number is brought to."""

from __future__ import annotations

import unicodedata

from gateway.central.people.contacts import Contact as Contact
from gateway.central.people.contacts import ContactStore as ContactStore


def typed_number(text: str) -> str:
    """Bring a typed number to one form: digits of any script to ASCII, no spaces or dashes, upper case.

    >>> typed_number(" १२३४ 567-890 ")
    '1234567890'
    """
    plain = []
    for character in unicodedata.normalize("NFKC", text):
        if character.isdecimal():
            plain.append(str(unicodedata.decimal(character)))
        elif not (character.isspace() or unicodedata.category(character) in ("Cf", "Pd")):
            plain.append(character.upper())
    return "".join(plain)

"""Attributes and methods as people write them: `CLASS/OBIS/NUMBER`."""

from __future__ import annotations

import re

from protocols.dlms.apdu.lists import Target
from protocols.reading import Obis

_FORM = re.compile(r"([0-9]{1,5})/([0-9A-Za-z.:*-]{5,30})/([0-9]{1,3})")


def parse_target(text: str) -> Target:
    """Read `1/1-0:0.8.0*255/2`: class, OBIS code, attribute or method; ValueError says what is wrong."""
    found = _FORM.fullmatch(text)
    if found is None or not 0 < int(found[1]) < 1 << 16 or not 0 < int(found[3]) < 128:
        raise ValueError(f"`{text}` is no attribute or method: write CLASS/OBIS/NUMBER, as 1/1-0:0.8.0*255/2")
    return Target(int(found[1]), Obis.parse(found[2]), int(found[3]))

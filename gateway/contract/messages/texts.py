"""Texts of messages, written fast: strings, decimals, the head of an envelope."""

from __future__ import annotations

import json
from functools import lru_cache

from protocols.reading import Number

MAX_TEXT = 4_096
"""Characters of a text value that are kept; a meter's texts are far shorter."""


def quoted(text: str) -> str:
    """Return a JSON string, UTF-8 kept; half surrogates, which UTF-8 cannot carry, become `?`."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)


_POWERS: dict[int, tuple[int, str]] = {-n: (10**n, f"%d.%0{n}d") for n in range(1, 13)}


def decimal_text(number: Number) -> str:
    """Return `Number.text`, with the usual scalers of numbers that are not negative done at once."""
    mantissa, scaler = number.mantissa, number.scaler
    if scaler == 0:
        return str(mantissa)
    power = _POWERS.get(scaler)
    if power is None or mantissa < 0:
        return number.text()
    whole, part = divmod(mantissa, power[0])
    return power[1] % (whole, part)


def gateway_source(gateway: str) -> str:
    """CloudEvents `source` of a gateway: `/gateways/{name}`."""
    return f"/gateways/{gateway}"


def envelope_head(identity: str, source: str, type: str, time: str, schema: str) -> bytes:
    """Return an envelope's octets up to its data; after the data one brace closes it."""
    begin, middle, end = envelope_parts(source, type, schema)
    return b"%b%b%b%b%b" % (begin, quoted_ascii(identity), middle, time.encode(), end)


@lru_cache(maxsize=256)
def envelope_parts(source: str, type: str, schema: str) -> tuple[bytes, bytes, bytes]:
    """Return what stands before the id of an envelope, between id and time, and from there to the data."""
    return (
        b'{"specversion":"1.0","id":',
        b',"source":%b,"type":"%b","time":"' % (quoted_ascii(source), type.encode()),
        b'","datacontenttype":"application/json","dataschema":"%b","data":' % schema.encode(),
    )


def quoted_ascii(text: str) -> bytes:
    """Return a JSON string in ASCII."""
    return json.dumps(text).encode()

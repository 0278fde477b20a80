"""Captures as the contract's JSON, written piece by piece: the fast twin of the pydantic models.

The octets are those of `Capture.model_dump_json(exclude_defaults=True)` (a test compares them), at a
small part of the cost: what repeats (quantities, attributions, quoted names) is kept ready.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache

from mapping.directory import Attribution, Unattributed
from protocols.reading import (
    Bits,
    Instant,
    MeterTime,
    Missing,
    Number,
    Quantity,
    Text,
    Value,
    name_of,
)

MAX_HEADS = 8_192
"""Quantities (with unit) whose beginning is kept ready; a gateway sees some hundreds."""
MAX_TEXT = 4_096
"""Characters of a text value that are kept; a meter's texts are far shorter."""


def instant_text(at: datetime) -> str:
    """RFC 3339 in UTC, as `contract.messages.rfc3339` writes it; `at` carries a zone."""
    if at.tzinfo is not UTC:
        at = at.astimezone(UTC)
    return at.isoformat()[:-6] + "Z"


def quoted(text: str) -> str:
    """A JSON string, UTF-8 kept; half surrogates, which UTF-8 cannot carry, become `?`."""
    return json.dumps(text.encode("utf-8", "replace").decode(), ensure_ascii=False)


quoted_often = lru_cache(maxsize=MAX_HEADS)(quoted)
"""`quoted` for texts that come again and again: meters, profiles, account numbers."""


class _Heads:
    """Beginnings `{"q":…,"name":…` by quantity and unit.

    Looked up by the quantity object's identity first: hashing it would cost more than all else. The
    object is kept with its heads, so an identity cannot be given away.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Quantity, str, dict[str, str]]] = {}

    def plain(self, quantity: Quantity) -> str:
        return self._of(quantity)[1]

    def number(self, quantity: Quantity, unit: str) -> str:
        """With unit and up to the value's opening quote."""
        kept = self._kept.get(id(quantity)) or self._of(quantity)
        return kept[2].get(unit) or self._with_unit(kept, unit)

    def _of(self, quantity: Quantity) -> tuple[Quantity, str, dict[str, str]]:
        kept = self._kept.get(id(quantity))
        if kept is None:
            if len(self._kept) >= MAX_HEADS:
                self._kept.clear()
            head = f'{{"q":{quoted(str(quantity))},"name":{quoted(name_of(quantity))}'
            kept = self._kept[id(quantity)] = (quantity, head, {})
        return kept

    def _with_unit(self, kept: tuple[Quantity, str, dict[str, str]], unit: str) -> str:
        named = f',"unit":{quoted(unit)}' if unit else ""
        head = kept[2][unit] = f'{kept[1]}{named},"value":"'
        if len(kept[2]) > MAX_HEADS:
            kept[2].clear()
        return head


_heads = _Heads()
_POWERS: dict[int, tuple[int, str]] = {-n: (10**n, f"%d.%0{n}d") for n in range(1, 13)}


def _number(number: Number) -> str:
    """`Number.text`, with the usual scalers of numbers that are not negative done at once."""
    mantissa, scaler = number.mantissa, number.scaler
    if scaler == 0:
        return str(mantissa)
    power = _POWERS.get(scaler)
    if power is None or mantissa < 0:
        return number.text()
    whole, part = divmod(mantissa, power[0])
    return power[1] % (whole, part)


def values_json(values: Sequence[tuple[Quantity, Value]]) -> str:
    """The JSON array of a capture's values, in the meter's order."""
    number_head = _heads.number
    parts = [
        f'{number_head(quantity, value.unit)}{_number(value)}"}}'
        if type(value) is Number
        else _other(quantity, value)
        for quantity, value in values
    ]
    return f"[{','.join(parts)}]"


def _other(quantity: Quantity, value: Value) -> str:
    head = _heads.plain(quantity)
    match value:
        case Instant(at):
            return f'{head},"instant":"{instant_text(at)}"}}'
        case Text(text):
            return f'{head},"text":{quoted(text[:MAX_TEXT])}}}'
        case Bits(bits):
            return f'{head},"bits":{quoted(bits[:MAX_TEXT])}}}'
        case Missing(reason):
            return f'{head},"missing":"{reason.value}"}}'
        case Number():
            return f'{_heads.number(quantity, value.unit)}{_number(value)}"}}'


def capture_json(
    *,
    capture_id: str,
    meter: str,
    profile: str,
    at: str,
    start: datetime | None,
    meter_time: MeterTime | None,
    received_at: datetime,
    quality: str,
    values: str,
    accounts: tuple[Attribution, ...],
    reason: Unattributed | None,
    directory_version: int,
    raw: bytes | None,
) -> bytes:
    """A whole capture with value_rev 1 and without seq; `at` and `values` come as JSON text already."""
    begin = f'"{instant_text(start)}"' if start is not None else "null"
    why = f'"{reason.value}"' if reason is not None else "null"
    evidence = f',"raw":"{b64encode(raw).decode()}"' if raw is not None else ""
    return (
        f'{{"capture_id":{quoted(capture_id)},"value_rev":1,"meter":{quoted_often(meter)},'
        f'"profile":"{profile}","at":"{at}","start":{begin},"meter_time":{_meter_time(meter_time)},'
        f'"received_at":"{instant_text(received_at)}","quality":"{quality}","values":{values},'
        f'"attributions":[{",".join(map(_attribution, accounts))}],"reason":{why},'
        f'"directory_version":{directory_version}{evidence}}}'
    ).encode()


def _meter_time(stamp: MeterTime | None) -> str:
    if stamp is None:
        return "null"
    deviation = "null" if stamp.deviation is None else str(stamp.deviation)
    status = "null" if stamp.status is None else str(stamp.status)
    trusted = "true" if stamp.trusted else "false"
    return f'{{"wall":{quoted(stamp.wall)},"deviation":{deviation},"status":{status},"trusted":{trusted}}}'


@lru_cache(maxsize=MAX_HEADS)
def _attribution(one: Attribution) -> str:
    number = "null" if one.account_number is None else quoted(one.account_number)
    legacy = "null" if one.legacy_number is None else quoted(one.legacy_number)
    return (
        f'{{"account_id":{quoted(one.account_id)},"account_number":{number},"legacy_number":{legacy},'
        f'"usage_point":{quoted(one.usage_point)},"role":"{one.role.value}"}}'
    )

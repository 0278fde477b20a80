"""Values of captures as the contract's JSON text, written fast: what repeats is kept ready.

The text is that of the pydantic model `CaptureValue` (a test compares them), at a small part of the cost.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache

from gateway.contract.messages import rfc3339
from protocols.reading import Bits, Instant, Missing, Number, Quantity, Text, Value, name_of

MAX_HEADS = 8_192
"""Quantities (with unit) whose beginning is kept ready; a gateway sees some hundreds."""
MAX_TEXT = 4_096
"""Characters of a text value that are kept; a meter's texts are far shorter."""


def quoted(text: str) -> str:
    """Return a JSON string, UTF-8 kept; half surrogates, which UTF-8 cannot carry, become `?`."""
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


def values_json(values: Sequence[tuple[Quantity, Value]]) -> str:
    """Return the JSON array of a capture's values, in the meter's order."""
    number_head = _heads.number
    parts = [
        f'{number_head(quantity, value.unit)}{decimal_text(value)}"}}'
        if type(value) is Number
        else _other(quantity, value)
        for quantity, value in values
    ]
    return f"[{','.join(parts)}]"


def _other(quantity: Quantity, value: Value) -> str:
    head = _heads.plain(quantity)
    match value:
        case Instant(at):
            return f'{head},"instant":"{rfc3339(at)}"}}'
        case Text(text):
            return f'{head},"text":{quoted(text[:MAX_TEXT])}}}'
        case Bits(bits):
            return f'{head},"bits":{quoted(bits[:MAX_TEXT])}}}'
        case Missing(reason):
            return f'{head},"missing":"{reason.value}"}}'
        case Number():
            return f'{_heads.number(quantity, value.unit)}{decimal_text(value)}"}}'

"""How the program of version 1 wrote the values of a capture (see `version_1`)."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.contract.messages import rfc3339
from gateway.contract.messages.texts import MAX_TEXT, decimal_text, quoted
from protocols.reading import Bits, Instant, Missing, Number, Quantity, Text, Value, name_of

MAX_HEADS = 8_192


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

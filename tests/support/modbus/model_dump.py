"""The shipped Modbus models as text that a reviewer compares with the vendors' sheets.

`python -m tests.support.modbus.model_dump > tests/protocols/modbus/golden_models.txt` writes it anew.
"""

from __future__ import annotations

from protocols.line import LinePace
from protocols.modbus.format.library import load_model, model_names
from protocols.modbus.format.model import LIVE_PROFILES, MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.modbus.planning.plan import plan
from protocols.modbus.planning.wire_time import wire_cost
from protocols.modbus.session.reader import limits_of
from protocols.reading import Quantity, name_of

COST = wire_cost("rtu", LinePace(octet=10 / 9600, gap=35 / 9600), 0.03)
"""At 9600 8N1, of a meter that takes 30 ms to answer."""


def dump(model: MeterModel) -> str:
    hole = "-" if model.hole is None else model.hole
    lines = [f"{model.name} {model.manufacturer} max {model.max_read} align {model.align} hole {hole}"]
    for r in model.registers:
        scale = f"10^{r.scaler}" + (f" shown 10^{r.resolution}" if r.resolution is not None else "")
        lines.append(
            f"  fc{r.function} 0x{r.address:04X} {r.type} {model.order(r)} {scale} {r.unit or '-'} {r.quantity}"
            f" {name_of(Quantity.of(r.quantity))} {'+'.join(r.profiles)} {r.group or '-'} {r.basis}"
            f"{''.join(f' !{s:X}' for s in r.sentinel)}{_more(r)}"
        )
    lines += [f"  scale {s.model_dump(exclude_defaults=True, mode='json')}" for s in model.scales]
    for profile in LIVE_PROFILES:
        spans = [r.span for r in model.of_profile(profile)]
        blocks = plan(spans, limits_of(model), COST, distinct=True)
        asks = ", ".join(f"fc{b.function} 0x{b.address:04X} x {b.count}" for b in blocks)
        lines.append(f"  {profile}: {asks or 'none'}")
    lines += [f"  probe {p.quantity} {p.low}..{p.high}" for p in model.probe]
    said = model.model_dump(exclude_defaults=True, mode="json")
    lines += [f"  {key} {said[key]}" for key in _TABLES if key in said]
    return "\n".join(lines) + "\n"


_TABLES = ("absent", "fingerprint", "forbidden", "relay", "log", "writes", "pause", "pause_after_other_unit")
_SHOWN = {
    *("function", "address", "type", "word_order", "scaler", "resolution", "unit", "quantity", "profiles"),
    *("group", "basis", "sentinel"),
}
"""Keys of a register that have their place in its line."""


def _more(register: RegisterSpec) -> str:
    rest = register.model_dump(exclude=_SHOWN, exclude_defaults=True, mode="json")
    return "".join(f" {key}={value}" for key, value in rest.items())


def dump_all() -> str:
    """Return every shipped model, by name."""
    return "\n".join(dump(load_model(name)) for name in model_names())


if __name__ == "__main__":
    print(dump_all(), end="")

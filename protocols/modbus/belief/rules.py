"""What a quantity can be: limits, growth and the largest step, by the model's word or by the kind of quantity."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from protocols.modbus.format.encoding import NO_NUMBERS
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.obis import Obis
from protocols.reading import Quantity

MOST_SINGLE_PHASE = Decimal(50_000)
"""Largest load of a single-phase meter in W, VA or var: 200 A at 250 V."""
MOST_POLYPHASE = Decimal(5_000_000)
"""Largest load of another meter: behind instrument transformers; a model or the meter's sanctioned load says less."""
OVER_LOAD = 3
"""How many times its sanctioned load a consumer may draw before a meter is thought to be wrong."""
SAG, SWELL = Decimal("0.5"), Decimal("1.25")
"""How far outside a model's probe a value may lie while it is read: a supply of 110 V is a fact, not a mistake."""
MOST_ENERGY = Decimal(10) ** 12
"""Highest energy register, in Wh: a thousand million kWh."""
MOST_CURRENT, MOST_VOLTAGE = Decimal(20_000), Decimal(500_000)
MOST_FACTOR = Decimal("1.05")
"""Highest power factor: meters that divide two rounded numbers show a little more than one."""
MOST_PRICE = Decimal(20)
"""Rupees that a kilowatt hour may cost: a balance that falls to zero faster was not spent."""
MONEY = "INR"
INTERVAL = 29
"""Group D of energies of a capture period."""
_PHASE_VOLTAGES = (32, 52, 72)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What one quantity can be; values in its unit.

    `continuous` ones change by no more than `power` in an hour, `growing` ones only upwards, and begin again at
    zero after `turns` of their last digit. `floating` values waver by the step of a 32-bit float. Those with
    `zero_at_first` show zero for a while after power-up. `money` rises and falls as it likes, but does not fall to
    zero faster than it can be spent. `probe` is the
    range that the model's probe gives, as wide as it is while reading; the quantities `beside` it are those of the
    other phases.
    """

    low: Decimal
    high: Decimal
    continuous: bool = False
    growing: bool = False
    power: Decimal = Decimal(0)
    turns: tuple[int, ...] = ()
    floating: bool = False
    zero_at_first: bool = False
    money: bool = False
    probe: tuple[Decimal, Decimal] | None = None
    beside: tuple[Quantity, ...] = ()


def is_phase_voltage(quantity: Quantity) -> bool:
    """Say whether it is the voltage of one of three phases to neutral, now."""
    return _is_live(quantity.obis) and quantity.obis.c in _PHASE_VOLTAGES


def rules_of(model: MeterModel, sanctioned_load: Decimal | None = None) -> dict[Quantity, Rule]:
    """Return the rules of all numbers of a model; `sanctioned_load` of the meter is in kW (None: not known)."""
    power, most = largest_load(model, sanctioned_load), largest_load(model, None)
    probes = {Quantity.of(p.quantity): (_wider(p.low, SAG), _wider(p.high, SWELL)) for p in model.probe}
    quantities = {Quantity.of(r.quantity): r for r in model.registers}
    phases = tuple(filter(is_phase_voltage, quantities))
    return {
        quantity: _rule(quantity, register, (power, most), probes.get(quantity), phases)
        for quantity, register in quantities.items()
        if register.type not in NO_NUMBERS and not register.as_text
    }


def _wider(bound: Decimal, by: Decimal) -> Decimal:
    return bound * by if bound > 0 else bound / by


def _rule(
    quantity: Quantity,
    register: RegisterSpec,
    powers: tuple[Decimal, Decimal],
    probe: tuple[Decimal, Decimal] | None,
    phases: tuple[Quantity, ...],
) -> Rule:
    power, most = powers  # that of this consumer over time, and that of the kind of meter at a moment
    low, high = limits_of(quantity, most)
    own_low, own_high, step = map(register.in_base, (register.low, register.high, register.max_step))
    kind = energy_kind(quantity)
    growing = kind == "growing" if register.monotonic is None else register.monotonic
    money = register.base_unit == MONEY and step is None and not growing
    return Rule(
        low=low if own_low is None else own_low,
        high=high if own_high is None else own_high,
        continuous=growing or kind is not None or step is not None or money,
        growing=growing,
        power=_fastest(power, energy=kind is not None, money=money) if step is None else step,
        turns=_turns(register),
        zero_at_first=register.zero_after_power_up,
        money=money,
        floating=register.type == "f32",
        probe=probe,
        beside=tuple(q for q in phases if q != quantity) if quantity in phases else (),
    )


def _fastest(power: Decimal, *, energy: bool, money: bool) -> Decimal:
    """Return by how much a quantity changes in an hour at most, of which the model does not say it."""
    if money:
        return power / 1_000 * MOST_PRICE
    return power if energy else Decimal("Infinity")


def largest_load(model: MeterModel, sanctioned_load: Decimal | None) -> Decimal:
    """Return the load above which a meter is thought to be wrong, in W, VA or var."""
    if sanctioned_load is not None:
        return sanctioned_load * 1_000 * OVER_LOAD
    polyphase = any(41 <= Quantity.of(r.quantity).obis.c <= 80 for r in model.registers)
    return MOST_POLYPHASE if polyphase or model.scales else MOST_SINGLE_PHASE


def _turns(register: RegisterSpec) -> tuple[int, ...]:
    """Return after how many of its last digit a register begins again where its model does not say: by its size."""
    scaled = register.factor != 1 or register.multiply_by or register.divide_by or register.plus
    if register.modulus is not None or scaled:
        return ()
    if register.type == "bcd":
        return (10 ** (4 * register.size),)
    return (1 << register.raw_bits,) if register.type.startswith("u") else ()


def energy_kind(quantity: Quantity) -> str | None:
    """Return whether a quantity is an energy register that only grows, a net one, or none (time integral 1)."""
    obis = quantity.obis
    if obis.a != 1 or obis.d != 8 or quantity.attribute != 2 or not 1 <= obis.c <= 80:
        return None
    kind = _kind(obis)
    if 1 <= kind <= 10 or kind == 15:
        return "growing"
    return "net" if kind == 16 else None


def interval_limits(quantity: Quantity, power: Decimal, hours: Decimal) -> tuple[Decimal, Decimal] | None:
    """Return what an energy of one interval can be (time integral 5), None for another quantity."""
    obis = quantity.obis
    if obis.a != 1 or obis.d != INTERVAL or quantity.attribute != 2 or not 1 <= obis.c <= 80:
        return None
    most = power * hours
    return (-most if _kind(obis) == 16 else Decimal(0)), most


def limits_of(quantity: Quantity, most_power: Decimal) -> tuple[Decimal, Decimal]:
    """Return what a quantity of this kind can be, in its unit (`Wh`, `W`, `V`, `A`, `Hz`, or none).

    `most_power` is the largest load of the kind of meter.
    """
    energy = energy_kind(quantity)
    if energy is not None:
        return (Decimal(0) if energy == "growing" else -MOST_ENERGY), MOST_ENERGY
    obis = quantity.obis
    wide = (-(Decimal(10) ** 18), Decimal(10) ** 18)
    if not _is_live(obis) and not (obis.a == 1 and obis.d == 6):
        return wide
    if obis.c == 91:
        return -MOST_CURRENT, MOST_CURRENT
    if not 1 <= obis.c <= 80:
        return wide
    match _kind(obis):
        case 11:
            return -MOST_CURRENT, MOST_CURRENT
        case 12:
            return Decimal(0), MOST_VOLTAGE
        case 13:
            return -MOST_FACTOR, MOST_FACTOR
        case 14:
            return Decimal(0), Decimal(100)
        case kind if 1 <= kind <= 10 or kind in (15, 16):
            return -most_power, most_power
    return wide


def _is_live(obis: Obis) -> bool:
    return obis.a == 1 and obis.d == 7


def _kind(obis: Obis) -> int:
    """Return the quantity of group C without its phase: 21, 41 and 61 are what 1 is (IEC 62056-6-1, table 5)."""
    return obis.c if obis.c <= 20 else (obis.c - 21) % 20 + 1

"""Money or energy for a prepaid meter: an amount that its register can hold, written once, proved by its balance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from zoneinfo import ZoneInfo

from protocols.errors import LocalError, MeterRefused, NotSupported
from protocols.modbus.belief.plausible import grain
from protocols.modbus.decoding.codec import decode, encode
from protocols.modbus.format.model import MeterModel
from protocols.modbus.format.registers import RegisterSpec
from protocols.modbus.format.writes import BALANCE, RECHARGED, AmountWrite
from protocols.modbus.session.proof import Shown
from protocols.reading import Number, Value

SPENT = 4
"""Of an amount, the part that may be used up before it is looked at: a fourth. More is not what was written."""


def said(number: Number) -> str:
    """Return a number with its unit."""
    return f"{number.text()} {number.unit}".rstrip()


class Credit(StrEnum):
    """What is done to the balance."""

    RECHARGE = "recharge"
    BALANCE = "balance"


@dataclass(frozen=True, slots=True, kw_only=True)
class Purse:
    """What a meter shows of its money or energy: balance, and sum of all recharges; None where it shows none."""

    balance: Number | None
    recharged: Number | None

    @property
    def _figures(self) -> list[tuple[str, Number]]:
        figures = [("balance", self.balance), ("recharged in all", self.recharged)]
        return [(name, value) for name, value in figures if value is not None]

    def __str__(self) -> str:
        return ", ".join(f"{name} {said(value)}" for name, value in self._figures) or "no balance"

    def after(self, credit: Credit, amount: Number) -> str:
        """Return what it will be when an amount has been written, in words."""
        if credit is Credit.BALANCE:
            return f"balance {said(amount)}"
        return ", ".join(f"{name} {said(_sum(value, amount))}" for name, value in self._figures)


class Crediting:
    """What the model's `[writes]` say of recharge and balance; `values` reads registers of the meter."""

    def __init__(
        self,
        model: MeterModel,
        zone: ZoneInfo,
        values: Callable[[tuple[RegisterSpec, ...]], Awaitable[list[Value]]],
    ) -> None:
        self._model = model
        self._zone = zone
        self._values = values

    def register(self, credit: Credit) -> AmountWrite:
        """Return the register that takes it; NotSupported says what the model lacks."""
        write: AmountWrite | None = getattr(self._model.writes, credit.value)
        if write is None:
            raise NotSupported(
                f"model {self._model.name} has no register for {credit}: add [writes.{credit}] from the meter's map"
                " where it has one"
            )
        return write

    def words(self, credit: Credit, amount: Number) -> list[int]:
        """Return the words of an amount; LocalError where the register cannot hold exactly that."""
        register = self.register(credit)
        if credit is Credit.RECHARGE and amount.decimal() <= 0:
            raise LocalError(f"a recharge is more than nothing, not {said(amount)}")
        try:
            words = encode(self._model, register, amount, self._zone)
        except (ValueError, OverflowError) as error:
            raise LocalError(f"{credit}: {said(amount)} does not fit its register: {error}") from error
        back = decode(self._model, register, words, self._zone)
        if not isinstance(back, Number) or back.decimal() != amount.decimal():
            instead = (
                f"it would become {said(back)}" if isinstance(back, Number) else "that means no value there"
            )
            raise LocalError(f"{credit}: the meter's register cannot hold {said(amount)}: {instead}")
        return words

    def amount(self, credit: Credit, text: str) -> Number:
        """Return an amount that a person wrote, `500.00` or `500.00 INR`; LocalError says what is wrong with it."""
        register = self.register(credit)
        figure, _, unit = text.strip().partition(" ")
        if unit.strip() not in ("", register.unit, register.base_unit):
            raise LocalError(f"{credit} is in {register.unit or 'no unit'}, not in {unit.strip()}")
        try:
            number = Number.from_text(figure, register.base_unit)
        except ValueError:
            raise LocalError(f"`{text}` is no amount: write it as 500.00") from None
        if unit.strip() in ("", register.unit):
            number = replace(number, scaler=number.scaler + register.prefix)
        self.words(credit, number)
        return number

    async def purse(self) -> Purse:
        """Read what the meter shows; MeterRefused where it shows neither figure now."""
        known = {name: self._register_of(name) for name in (BALANCE, RECHARGED)}
        registers = tuple(register for register in known.values() if register is not None)
        found = dict(zip((r.quantity for r in registers), await self._values(registers), strict=True))

        def figure(name: str) -> Number | None:
            register = known[name]
            value = None if register is None else found[register.quantity]
            return value if isinstance(value, Number) else None

        purse = Purse(balance=figure(BALANCE), recharged=figure(RECHARGED))
        if purse.balance is None and purse.recharged is None:
            raise MeterRefused("the meter shows no balance now, by which the write could be proved")
        return purse

    def judge(self, credit: Credit, amount: Number, before: Purse, now: Purse) -> Shown:
        """Return what `now` says of an amount that was written when the meter showed `before`.

        The sum of recharges is exact; a balance goes down by what is used meanwhile. Figures that contradict each other
        prove nothing.
        """
        found: set[Shown] = set()
        if before.balance is not None and now.balance is not None:
            step = amount.decimal()
            if credit is Credit.BALANCE:
                step -= before.balance.decimal()
            found.add(
                _moved(now.balance, before.balance, step, self._waver(BALANCE, now.balance), spent=True)
            )
        if credit is Credit.RECHARGE and before.recharged is not None and now.recharged is not None:
            waver = self._waver(RECHARGED, now.recharged)
            found.add(_moved(now.recharged, before.recharged, amount.decimal(), waver, spent=False))
        return found.pop() if len(found) == 1 else Shown.NEITHER

    def _register_of(self, quantity: str) -> RegisterSpec | None:
        try:
            return self._model.of_quantity(quantity)
        except KeyError:
            return None

    def _waver(self, quantity: str, value: Number) -> Decimal:
        """Return by how much a figure may be off: not at all, but a float of its size has a step."""
        register = self._register_of(quantity)
        return grain(value, floating=True) if register is not None and register.type == "f32" else Decimal(0)


def _moved(now: Number, before: Number, step: Decimal, waver: Decimal, *, spent: bool) -> Shown:
    """Return whether a figure went on by `step`; `spent` says that it goes down by itself."""
    moved = now.decimal() - before.decimal()
    below = abs(step) / SPENT if spent else Decimal(0)
    if step - below - waver <= moved <= step + waver:
        return Shown.KEPT
    if -below - waver <= moved <= waver:
        return Shown.AS_BEFORE
    return Shown.NEITHER


def _sum(one: Number, other: Number) -> Number:
    scaler = min(one.scaler, other.scaler)
    total = sum(number.mantissa * 10 ** (number.scaler - scaler) for number in (one, other))
    return Number(total, scaler, one.unit)

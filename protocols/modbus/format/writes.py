"""The only registers of a meter that may be written, each by what it does."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from protocols.modbus.format.encoding import NO_NUMBERS, TIMES, Address, Encoding, Int, ModelTable
from protocols.modbus.format.registers import Basis, Scaled
from protocols.reading import RelayState

SINGLE_COIL, SINGLE_REGISTER = 5, 6
WriteFunction = Literal[5, 6, 16]
BALANCE, RECHARGED = "0-0:94.96.24*255", "0-0:94.96.23*255"
"""The balance of a prepaid meter, and the sum of all recharges (IS 15959): by them a recharge is proved."""


def _check_function(function: int, encoding: Encoding) -> None:
    if (encoding.type == "bit") != (function == SINGLE_COIL):
        raise ValueError("function 5 writes type bit, and no other function does")
    if function == SINGLE_REGISTER and encoding.size != 1:
        raise ValueError(f"function 6 writes one register, and type {encoding.type} has {encoding.size}")
    if encoding.bits is not None:
        raise ValueError("a write replaces whole registers: take `bits` out")


class _Write(Encoding):
    function: WriteFunction = Field(description="5 a coil, 6 one register, 16 registers")
    address: Address = Field(description="0-based, as on the wire")
    basis: Basis = Field("published", description="how far the address is to be trusted")

    @model_validator(mode="after")
    def _writable(self) -> Self:
        _check_function(self.function, self)
        return self


class RelayWrite(_Write):
    """The register that moves the supply contact. Used on lines declared `trusted` only."""

    close: Annotated[Int, Field(ge=0)] = Field(description="raw value that closes it")
    open: Annotated[Int, Field(ge=0)] = Field(description="raw value that opens it")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if max(self.close, self.open) >= 1 << self.raw_bits or self.close == self.open:
            raise ValueError(f"`close` and `open` are two unsigned patterns of {self.raw_bits} bits")
        return self

    def raw(self, to: RelayState) -> int:
        """Return the raw value that moves the contact there; ValueError for a state that is none."""
        if to is RelayState.UNKNOWN:
            raise ValueError("a contact is moved to open or closed")
        return self.close if to is RelayState.CLOSED else self.open


class ClockWrite(_Write):
    """The registers that set the clock."""

    @model_validator(mode="after")
    def _time(self) -> Self:
        if self.type not in TIMES:
            raise ValueError(f"a clock is of type {', '.join(TIMES)}, not {self.type}")
        return self


class UnlockWrite(_Write):
    """What is written first, so that the meter takes the others: the constant that its map prints, no password."""

    value: Annotated[Int, Field(ge=0)] = Field(description="raw value")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.value >= 1 << self.raw_bits:
            raise ValueError(f"`value` is an unsigned pattern of {self.raw_bits} bits")
        return self


class AmountWrite(Scaled):
    """A register that takes an amount of money or energy. Used on lines declared `trusted` only."""

    function: WriteFunction = Field(description="5 a coil, 6 one register, 16 registers")
    address: Address = Field(description="0-based, as on the wire")
    basis: Basis = Field("published", description="how far the address is to be trusted")

    @model_validator(mode="after")
    def _writable(self) -> Self:
        _check_function(self.function, self)
        if self.type in (*NO_NUMBERS, "bit") or self.plus or self.multiply_by or self.divide_by:
            raise ValueError("an amount is one number of its own")
        return self


class Writes(ModelTable):
    """All that may be written."""

    relay: RelayWrite | None = Field(None, description="moves the supply contact")
    clock: ClockWrite | None = Field(None, description="sets the clock")
    balance: AmountWrite | None = Field(None, description="sets the balance of a prepaid meter")
    recharge: AmountWrite | None = Field(None, description="adds to the balance of a prepaid meter")
    unlock: UnlockWrite | None = Field(None, description="is written before the others")

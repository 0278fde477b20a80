"""Three phases out of one household's load: exact shares, so that phases add up to the meter's totals."""

from __future__ import annotations

from dataclasses import dataclass

from protocols.simulator.household.chance import Dice
from protocols.simulator.household.state import Phase

PHASES = 3
_WHOLE = 1000


@dataclass(frozen=True, slots=True)
class Wiring:
    """How a load hangs on three phases: shares in thousandths, millivolts that each phase differs."""

    shares: tuple[int, int]
    offsets: tuple[int, int, int]

    @classmethod
    def drawn(cls, dice: Dice) -> Wiring:
        """Draw an ordinary, somewhat unbalanced wiring."""
        shares = (dice.between(240, 420), dice.between(240, 420))
        offsets = (dice.between(-2500, 2500), dice.between(-2500, 2500), dice.between(-2500, 2500))
        return cls(shares, offsets)

    def parts(self, whole: int) -> tuple[int, int, int]:
        """Share out a number; the parts add up to it."""
        first, second = (whole * share // _WHOLE for share in self.shares)
        return first, second, whole - first - second

    def voltages(self, millivolts: int) -> tuple[int, int, int]:
        """Return each phase's millivolts; none without supply."""
        if not millivolts:
            return 0, 0, 0
        first, second, third = self.offsets
        return millivolts + first, millivolts + second, millivolts + third

    def currents(self, va: int, millivolts: int) -> tuple[int, int, int]:
        """Return each phase's milliamperes for an apparent power."""
        volts = self.voltages(millivolts)
        first, second, third = (
            part * 1_000_000 // mv if mv else 0 for part, mv in zip(self.parts(va), volts, strict=True)
        )
        return first, second, third

    def phases(self, watts: int, va: int, millivolts: int, *, leading: bool) -> tuple[Phase, ...]:
        """Return the phases at an instant."""
        powers = self.parts(watts)
        extras = self.parts(va - watts)
        volts = self.voltages(millivolts)
        found = []
        for power, extra, mv in zip(powers, extras, volts, strict=True):
            apparent = power + extra
            factor = power * _WHOLE // apparent if apparent else _WHOLE
            current = apparent * 1_000_000 // mv if mv else 0
            found.append(Phase(mv, current, power, apparent, -factor if leading else factor))
        return tuple(found)

"""A prepaid household's money: what it uses costs, and it recharges, seldom or when the balance runs low."""

from __future__ import annotations

from protocols.simulator.household.chance import Dice
from protocols.simulator.household.daybook import WS_PER_WH, DatedAmount, DayBook, DayStart
from protocols.simulator.household.demand import DAY_S, SLOT_S, local_date
from protocols.simulator.household.interventions import Interventions

_LOW_BALANCE_PAISE = 15_000
_RECHARGES_PAISE = (20_000, 30_000, 50_000, 100_000)


class Purse:
    """The balance of one household from second `start` on, in paise.

    `tariff` is paise for a thousand watt-hours used beyond `first_ws` watt-seconds, `fixed_paise` the charge of
    a day. Balances that were written come from `interventions`.
    """

    def __init__(
        self,
        name: str,
        interventions: Interventions,
        *,
        start: int,
        first_ws: int,
        tariff: int,
        fixed_paise: int,
    ) -> None:
        self._name = name
        self._interventions = interventions
        self._start = start
        self._first_wh = first_ws // WS_PER_WH
        self._tariff = tariff
        self._fixed_paise = fixed_paise

    def recharges(self, opening: DayStart, start: int) -> list[DatedAmount]:
        """Return the household's own recharge of the day that begins at `start`, if it makes one."""
        dice = Dice(self._name, "recharge", local_date(start).isoformat(), draws=4)
        low = self._after(opening.recharged, opening.ws, start) < _LOW_BALANCE_PAISE
        if not dice.chance(650 if low else 25):
            return []
        paise = _RECHARGES_PAISE[dice.below(len(_RECHARGES_PAISE))]
        return [(start + dice.between(8 * 3600, 20 * 3600), paise)]

    def balance(self, day: DayBook, second: int) -> int:
        """Return the balance at a second of a day; what is used counts by whole half-hours."""
        slot = (second - day.plan.start) // SLOT_S
        return self._after(day.recharged(second)[0], day.ws[slot], second)

    def _after(self, recharged: int, ws: int, second: int) -> int:
        used = (ws // WS_PER_WH - self._first_wh) * self._tariff // 1000
        fixed = (second - self._start) // DAY_S * self._fixed_paise
        return recharged - used - fixed + self._interventions.corrected(second)

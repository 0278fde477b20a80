"""The section [clocks]: how far meters' clocks are put right without being asked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from gateway.config.types import Section


class ClocksSection(Section):
    """Small drifts of meters' clocks are corrected where this section stands; without it no clock is moved by itself.

    In seconds: a drift below `least` is left alone; one above `most` is told (`clock_drift`) and stays for an order
    (`clock --set`); between them a clock is moved by `step` at most, once a day at most. A clock is moved only where it
    stays `margin` away from the ends of the meter's intervals and of each quarter of an hour, so no interval is doubled
    or left out. Only a host that is shown to be right to half of `least` corrects anything; a meter that doubts its own
    clock is left alone.
    """

    least: Annotated[int, Field(ge=2, le=300)] = 10
    most: Annotated[int, Field(ge=3, le=900)] = 120
    step: Annotated[int, Field(ge=1, le=300)] = 60
    margin: Annotated[int, Field(ge=20, le=400)] = 120

    @model_validator(mode="after")
    def _fits(self) -> ClocksSection:
        if self.most <= self.least:
            raise ValueError("`most` is above `least`: drifts between them are corrected")
        if 2 * self.margin + self.step >= 900:
            raise ValueError(
                "`step` and twice `margin` leave no moment in a quarter of an hour: lower one of them"
            )
        return self

"""The event logs of a household's meter (IS 15959): what its days and what was done to it left there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from protocols.simulator.household.history import History
from protocols.simulator.household.interventions import Interventions

VOLTAGE_LOG, POWER_LOG, TRANSACTION_LOG, OTHER_LOG, CONTROL_LOG = 0, 2, 3, 4, 6
CLOCK_SET = 151
_LOGS_OF_INTERVENTIONS = (1, TRANSACTION_LOG, OTHER_LOG, 5)
_POWER_FAILED, _POWER_BACK, _DISCONNECTED, _CONNECTED = 101, 102, 301, 302


class LoggedEvent(NamedTuple):
    """An event: its second, the log that has it, its number there from 1 on, its code."""

    at: int
    log: int
    number: int
    code: int


def events(history: History, interventions: Interventions, low: int, high: int) -> list[LoggedEvent]:
    """Return the events with low < second <= high, oldest first."""
    found = (*_of_days(history, low, high), *_of_interventions(interventions))
    return sorted(event for event in found if low < event.at <= high)


def last_number(history: History, interventions: Interventions, log: int, second: int) -> int:
    """Return the number of the last event of a log at a second, 0 before its first; looks at one day."""
    opened = 0
    for note in history.notes(second - 1, second):
        voltage, power = note.opening.events
        opened = {VOLTAGE_LOG: voltage, POWER_LOG: power}.get(log, 0)
    found = (*_of_days(history, second - 1, second), *_of_interventions(interventions))
    numbers = (event.number for event in found if event.log == log and event.at <= second)
    return max(numbers, default=opened)


def _of_days(history: History, low: int, high: int) -> Iterator[LoggedEvent]:
    for note in history.notes(low, high):
        voltage, power = note.opening.events
        if sag := note.sag:
            yield LoggedEvent(sag.start, VOLTAGE_LOG, voltage + 1, sag.codes[0])
            yield LoggedEvent(sag.end, VOLTAGE_LOG, voltage + 2, sag.codes[1])
        for index, (begin, end) in enumerate(note.cuts):
            yield LoggedEvent(begin, POWER_LOG, power + 2 * index + 1, _POWER_FAILED)
            yield LoggedEvent(end, POWER_LOG, power + 2 * index + 2, _POWER_BACK)


def _of_interventions(interventions: Interventions) -> Iterator[LoggedEvent]:
    for log in _LOGS_OF_INTERVENTIONS:
        for at, number, code in interventions.numbered(log):
            yield LoggedEvent(at, log, number, code)
    for index, (at, closed) in enumerate(interventions.relay):
        yield LoggedEvent(at, CONTROL_LOG, index + 1, _CONNECTED if closed else _DISCONNECTED)

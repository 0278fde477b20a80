"""Fault scripts: what goes wrong with a simulated meter, when and how often, as data.

A fault is applied in one of three places: on the wire (octets that leave), in the conversation (APDUs, before
ciphering) or in the model (what the meter holds). `FAULT_KINDS` says for each kind where, what counts as an
opportunity and what `value` means.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from protocols.errors import MeterConfigError
from protocols.simulator.faults.kinds import FAULT_KINDS, FaultKind
from protocols.simulator.household.chance import Dice

MAX_FAULTS = 64
"""Faults of one script."""
MAX_VALUE = 1 << 24
_DRAWS = 1024  # after so many a new stream begins: its memory is bounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong.

    Of the opportunities the first `after` pass, then each `every`-th is taken, at most `times` (0 = no end),
    each with a chance of `per_mille`. `value` is the kind's own number (None: its default), `on` the OBIS
    code of the one object that it concerns ("" = all).
    """

    kind: FaultKind
    after: int = 0
    every: int = 1
    times: int = 0
    per_mille: int = 1000
    value: int | None = None
    on: str = ""

    @property
    def amount(self) -> int:
        """`value`, or the kind's default."""
        return FAULT_KINDS[self.kind].value if self.value is None else self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultScript:
    """A named list of faults; `seed` fixes every chance and every octet of noise."""

    name: str = ""
    about: str = ""
    faults: tuple[Fault, ...] = ()
    seed: int = 0

    def joined(self, other: FaultScript) -> FaultScript:
        """Return a script with the faults of both."""
        return replace(self, faults=(*self.faults, *other.faults))


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultFile:
    """What a file says: a script for every meter, and further ones for meters by their text."""

    everywhere: FaultScript
    meters: Mapping[str, FaultScript]

    def script(self, meter: str) -> FaultScript:
        """Return the whole script of one meter."""
        extra = self.meters.get(meter)
        return self.everywhere if extra is None else self.everywhere.joined(extra)


class FaultPlayer:
    """Plays one meter's script: counts opportunities and says which of them are taken."""

    def __init__(self, script: FaultScript, meter: str) -> None:
        self.script = script
        self._by_kind: dict[FaultKind, list[int]] = {}
        for number, fault in enumerate(script.faults):
            self._by_kind.setdefault(fault.kind, []).append(number)
        self._seen = [0] * len(script.faults)
        self._taken = [0] * len(script.faults)
        self._name = (script.seed, meter, script.name)
        self._streams = 0
        self._drawn = _DRAWS
        self._dice = Dice()
        self._of_turn: dict[int, bool] = {}

    def has(self, kind: FaultKind) -> bool:
        """Say whether the script names this kind at all; counts nothing."""
        return kind in self._by_kind

    def turn(self) -> None:
        """Begin the next opportunity of what is asked by `standing`: a request, or an association."""
        self._of_turn.clear()

    def standing(self, kind: FaultKind, obis: str = "") -> Fault | None:
        """Return a fault of the meter's ways; asked several times in one turn it is one opportunity."""
        for number in self._by_kind.get(kind, ()):
            fault = self.script.faults[number]
            if fault.on and fault.on != obis:
                continue
            if number not in self._of_turn:
                self._of_turn[number] = self._strikes(number)
            if self._of_turn[number]:
                return fault
        return None

    def fires(self, kind: FaultKind, obis: str = "") -> Fault | None:
        """Count an opportunity, and return the fault when it is taken; None when nothing goes wrong this time."""
        for number in self._by_kind.get(kind, ()):
            fault = self.script.faults[number]
            if (not fault.on or fault.on == obis) and self._strikes(number):
                return fault
        return None

    def _strikes(self, number: int) -> bool:
        """Count an opportunity of one fault; say whether it is taken."""
        fault = self.script.faults[number]
        self._seen[number] += 1
        place = self._seen[number] - fault.after - 1
        if place < 0 or place % fault.every or (fault.times and self._taken[number] >= fault.times):
            return False
        if fault.per_mille < 1000 and self.below(1000) >= fault.per_mille:
            return False
        self._taken[number] += 1
        return True

    def taken(self, kind: FaultKind) -> int:
        """Return how often faults of a kind were applied."""
        return sum(self._taken[number] for number in self._by_kind.get(kind, ()))

    def octets(self, count: int) -> bytes:
        """Draw octets of noise."""
        return bytes(self.below(256) for _ in range(count))

    def below(self, bound: int) -> int:
        """Draw a number from 0 to bound-1."""
        if self._drawn >= _DRAWS:
            self._dice, self._drawn = Dice(*self._name, self._streams, draws=_DRAWS), 0
            self._streams += 1
        self._drawn += 1
        return self._dice.below(bound)


@lru_cache(maxsize=1)
def shipped() -> Mapping[str, FaultScript]:
    """Return the scripts that come with the program, by name: one for every trap of the field."""
    raw = tomllib.loads(files(__package__).joinpath("traps.toml").read_text("utf-8"))
    return {name: _script(name, row, name) for name, row in raw.items()}


def load(source: str) -> FaultFile:
    """Read a file of faults, or take a shipped script by its name; MeterConfigError says what is wrong."""
    if source in shipped():
        return FaultFile(everywhere=shipped()[source], meters={})
    path = Path(source)
    if not path.is_file():
        known = ", ".join(sorted(shipped()))
        raise MeterConfigError(f"{source!r} is neither a file nor a shipped fault script ({known})")
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise MeterConfigError(f"{path} is no TOML file: {error}") from error
    return parse(raw, where=str(path))


def parse(raw: Mapping[str, Any], *, where: str) -> FaultFile:
    """Read what a file holds; MeterConfigError names the place and what is allowed."""
    meters: dict[str, FaultScript] = {}
    listed = raw.get("meters", [])
    if not isinstance(listed, list):
        raise MeterConfigError(f"{where}: `meters` is a list of tables ([[meters]])")
    for row in listed:
        if not isinstance(row, dict) or not isinstance(row.get("meter"), str):
            raise MeterConfigError(f'{where}: each [[meters]] names its meter (meter = "GEN:12345678")')
        name = row["meter"]
        meters[name] = _script(name, {k: v for k, v in row.items() if k != "meter"}, f"{where}: {name}")
    return FaultFile(
        everywhere=_script(where, {k: v for k, v in raw.items() if k != "meters"}, where), meters=meters
    )


def _script(name: str, row: Mapping[str, Any], where: str) -> FaultScript:
    unknown = set(row) - {"about", "seed", "scripts", "faults"}
    if unknown:
        raise MeterConfigError(
            f"{where}: unknown {', '.join(sorted(unknown))} (about, seed, scripts, faults, meters)"
        )
    seed = _number(row.get("seed", 0), f"{where}: seed")
    script = FaultScript(name=name, about=str(row.get("about", "")), seed=seed)
    for wanted in _list(row.get("scripts", []), f"{where}: scripts"):
        if wanted not in shipped():
            raise MeterConfigError(f"{where}: no shipped fault script {wanted!r} ({', '.join(shipped())})")
        script = script.joined(shipped()[wanted])
    faults = tuple(_fault(entry, where) for entry in _list(row.get("faults", []), f"{where}: faults"))
    script = script.joined(FaultScript(faults=faults))
    if len(script.faults) > MAX_FAULTS:
        raise MeterConfigError(f"{where}: {len(script.faults)} faults; at most {MAX_FAULTS}")
    return script


def _fault(entry: Any, where: str) -> Fault:
    if not isinstance(entry, dict) or "kind" not in entry:
        raise MeterConfigError(f"{where}: each fault is a table with a `kind`")
    try:
        kind = FaultKind(entry["kind"])
    except ValueError:
        raise MeterConfigError(
            f"{where}: unknown fault {entry['kind']!r} (one of {', '.join(FaultKind)})"
        ) from None
    unknown = set(entry) - {"kind", "after", "every", "times", "per_mille", "value", "on"}
    if unknown:
        raise MeterConfigError(f"{where}: {kind}: unknown {', '.join(sorted(unknown))}")

    def number(name: str, default: int) -> int:
        return _number(entry.get(name, default), f"{where}: {kind}: {name}", negative=name == "value")

    return Fault(
        kind=kind,
        after=number("after", 0),
        every=max(1, number("every", 1)),
        times=number("times", 0),
        per_mille=number("per_mille", 1000),
        value=number("value", 0) if "value" in entry else None,
        on=str(entry.get("on", "")),
    )


def _number(value: Any, where: str, *, negative: bool = False) -> int:
    low = -MAX_VALUE if negative else 0
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= MAX_VALUE:
        raise MeterConfigError(f"{where} is a whole number from {low} to {MAX_VALUE}")
    return value


def _list(value: Any, where: str) -> Sequence[Any]:
    if not isinstance(value, list):
        raise MeterConfigError(f"{where} is a list")
    return value

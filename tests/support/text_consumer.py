"""A billing consumer written from docs/billing.md and docs/messages.md alone: nothing of the product is imported.

It exists to prove the text. Where it and the reference consumer differ, the text is wrong.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

Json = dict[str, Any]
State = tuple[int, int]
"""(counter of the generation, version)"""
TICK = timedelta(microseconds=1)
EVER = datetime.max.replace(tzinfo=UTC)
BEGINNING = datetime.min.replace(tzinfo=UTC)
DOUBTED = ("untrusted_time", "identity_mismatch")


def when(text: str) -> datetime:
    """Read an instant."""
    return datetime.fromisoformat(text)


def spelled(at: datetime) -> str:
    """Write an instant as messages do."""
    return at.isoformat().replace("+00:00", "Z")


def state_of(text: str) -> State:
    """Read `3.9f2c01ab/7`."""
    generation, version = text.split("/")
    return int(generation.split(".")[0]), int(version)


@dataclass(frozen=True)
class Statement:
    """Whose a meter was over a span, as a state knew it; no holder: nobody's. Several: see the text on version 1."""

    since: datetime
    until: datetime
    state: State
    holders: list[Json]
    reason: str | None = None
    vague: bool = False

    @property
    def who(self) -> list[tuple[str, str]]:
        """What makes a holder: account and usage point."""
        return [(one["account_id"], one["usage_point"]) for one in self.holders]


@dataclass
class Reading:
    """A capture that was kept, with the stamp that counts and the numbers under which it came."""

    capture_id: str
    meter: str
    profile: str
    rank: tuple[int, int]
    gateway: str
    at: datetime
    start: datetime | None
    values: list[Any]
    columns: list[Json]
    reason: str | None
    stamp: list[Statement] = field(default_factory=list)
    stamped: tuple[State, tuple[int, int]] | None = None


def checksum_of(block: Json, row: Json) -> str:
    """The checksum as docs/messages.md computes it."""
    covered = {name: value for name, value in row.items() if name not in ("checksum", "value_rev")}
    array = [block["layout"], block["meter"], block["received_at"], block.get("interval"), covered]
    text = json.dumps(array, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class TextConsumer:
    """Takes messages, and says what its ledger has."""

    def __init__(self) -> None:
        self.said: dict[str, dict[tuple[str, int], Reading]] = {}
        self.allocated: dict[str, dict[int, Json]] = {}
        self.told: dict[str, list[Statement]] = {}
        self.names: dict[tuple[str, str], tuple[State, str | None]] = {}
        self.verdicts: dict[str, list[Json]] = {}
        self.came: dict[str, set[int]] = {}
        self.numbers: dict[tuple[str, str, int], set[tuple[str, int]]] = {}
        self.aside: dict[str, set[int]] = {}

    def take(self, message: Json) -> None:
        """Take one message, by the type of its envelope."""
        kind, data = message["type"], message["data"]
        if "masterdatalinkage" in kind:
            self._take_change(data)
        elif "naming" in kind:
            state = state_of(data["directory"])
            key = (data["account_id"], data["kind"])
            if key not in self.names or self.names[key][0] < state:
                self.names[key] = (state, data.get("new"))
        elif "allocation" in kind:
            known = self.allocated.setdefault(data["meter"], {}).setdefault(data["epoch"], data)
            if "to" not in known:
                self.allocated[data["meter"]][data["epoch"]] = data
        elif "time.judged" in kind:
            self.verdicts.setdefault(data["meter"], []).append(data)
        elif "gaps" in kind:
            self.came.setdefault(data["journal"], set()).update(gap["seq"] for gap in data["gaps"])
        else:
            for block in data["blocks"]:
                self._take_block(data, block)

    def _take_change(self, data: Json) -> None:
        since = when(data["from"]) if "from" in data else BEGINNING
        until = when(data["to"]) if "to" in data else EVER
        said = Statement(since, until, state_of(data["directory"]), data.get("new", []), data.get("reason"))
        self.told.setdefault(data["meter"], []).append(said)

    # --- line 1 and 4: which reading, and what came ---

    def _take_block(self, data: Json, block: Json) -> None:
        for number, row in enumerate(block["captures"], start=block["seq"]):
            if checksum_of(block, row) != row["checksum"]:
                continue
            came = self.came.setdefault(data["journal"], set())
            came.add(number)
            reading = self._read(data, block, row)
            said = self.said.setdefault(reading.capture_id, {})
            word = (reading.gateway, reading.rank[0])
            known = said.get(word)
            self.numbers.setdefault((reading.capture_id, *word), set()).add((data["journal"], number))
            if known is None:
                said[word] = reading
            elif known.rank == reading.rank and (known.values, known.columns) != (
                reading.values,
                reading.columns,
            ):
                self.aside.setdefault(data["journal"], set()).add(number)
            else:
                said[word] = better_of(known, reading)

    def counts(self, reading: Reading) -> bool:
        """Whether the word of the gateway counts that sent it."""
        told = self.allocated.get(reading.meter)
        if not told:
            return True
        own = {epoch: one for epoch, one in told.items() if one["gateway"] == reading.gateway}
        if not own or (reading.rank[0] and reading.rank[0] not in own):
            return False
        last = own[max(own)]
        return "to" not in last or reading.at <= when(last["to"])

    @property
    def readings(self) -> dict[str, Reading]:
        """The readings that count, one of each capture."""
        found: dict[str, Reading] = {}
        for capture_id, said in self.said.items():
            for one in said.values():
                if self.counts(one):
                    known = found.get(capture_id)
                    found[capture_id] = replace(one) if known is None else better_of(known, one)
        return found

    def _read(self, data: Json, block: Json, row: Json) -> Reading:
        layout = data["layouts"][block["layout"]]
        at = when(row["at"])
        start = None
        if "start" in row:
            start = when(row["start"])
        elif "interval" in block:
            start = at - timedelta(seconds=block["interval"])
        made = f"{block['meter']}/{layout['profile']}/{row['at']}/{row.get('occurrence', 0)}"
        reading = Reading(
            capture_id=row.get("capture_id", made),
            meter=block["meter"],
            profile=layout["profile"],
            rank=(block.get("epoch", 0), row.get("value_rev", 1)),
            gateway=data["gateway"].removesuffix("-field"),
            at=at,
            start=start,
            values=row["values"],
            columns=layout["columns"],
            reason=block.get("reason"),
        )
        if reading.reason not in DOUBTED:
            state = state_of(block["directory"])
            holders = data["holders"][block["holders"]] if "holders" in block else []
            reading.stamp = stated(reading, state, holders)
            reading.stamped = (state, reading.rank)
        return reading

    def missing(self) -> dict[str, list[list[int]]]:
        """What must be asked for, by journal."""
        found: dict[str, list[list[int]]] = {}
        for journal, came in self.came.items():
            for number in range(1, max(came, default=0)):
                if number not in came:
                    spans = found.setdefault(journal, [])
                    if spans and spans[-1][1] == number - 1:
                        spans[-1][1] = number
                    else:
                        spans.append([number, number])
        return found

    # --- line 3: when ---

    def _verdict(self, reading: Reading) -> Json | None:
        covering = [
            one
            for one in self.verdicts.get(reading.meter, ())
            if one.get("profile") in (None, reading.profile)
            and any(
                journal == one["journal"] and one["first_seq"] <= seq <= one["last_seq"]
                for word, one_said in self.said[reading.capture_id].items()
                if self.counts(one_said)
                for journal, seq in self.numbers[(reading.capture_id, *word)]
            )
        ]
        return max(covering, key=lambda one: one["version"], default=None)

    def in_doubt(self) -> list[str]:
        """Captures of an untrusted time on which no verdict was given, or none for good."""
        verdicts = {one.capture_id: self._verdict(one) for one in self.readings.values()}
        return [
            one.capture_id
            for one in self.readings.values()
            if one.reason == "untrusted_time"
            and (verdicts[one.capture_id] or {"trust": "provisional"})["trust"] == "provisional"
        ]

    # --- line 2: whose ---

    def ledger(self) -> Json:
        """The ledger as scenarios have it."""
        found: Json = {"captures": [self._entry(one) for _, one in sorted(self.readings.items())]}
        if missing := self.missing():
            found["missing"] = missing
        if self.aside:
            found["set_aside"] = {journal: sorted(numbers) for journal, numbers in self.aside.items()}
        return found

    def _entry(self, reading: Reading) -> Json:
        at, start, doubt = reading.at, reading.start, reading.reason if reading.reason in DOUBTED else None
        verdict = self._verdict(reading)
        if verdict is not None and verdict["trust"] != "trusted":
            doubt = "untrusted_time"
        elif verdict is not None and doubt == "untrusted_time":
            shift = timedelta(microseconds=int(Decimal(verdict.get("shift", "0")) * 1_000_000))
            at, start, doubt = at + shift, None if start is None else start + shift, None
        accounts, reason = ([], doubt) if doubt else self._whose(reading, start, at)
        entry = {
            "capture_id": reading.capture_id,
            "value_rev": reading.rank[1],
            "epoch": reading.rank[0] or None,
            "at": spelled(at),
            "start": None if start is None else spelled(start),
            "values": reading.values,
            "accounts": accounts,
            "reason": reason,
        }
        return {name: value for name, value in entry.items() if value is not None}

    def _whose(self, reading: Reading, start: datetime | None, at: datetime) -> tuple[list[Json], str | None]:
        statements = reading.stamp + self.told.get(reading.meter, [])
        instant = start is None or start == at
        begin, end = (at - TICK, at + TICK) if instant or start is None else (start, at)
        cuts = {begin, end, at} if instant else {begin, end}
        cuts |= {t for one in statements for t in (one.since, one.until) if begin < t < end}
        edges = sorted(cuts)
        pieces = [
            (left, right, newest([s for s in statements if s.since <= left and right <= s.until]))
            for left, right in pairwise(edges)
        ]
        accounts = self._of_instant(pieces) if instant else self._of_interval(pieces)
        if accounts:
            return accounts, None if all("account_number" in one for one in accounts) else "no_account"
        last = pieces[-1][2]
        return [], "no_account" if last is None else last.reason or "no_account"

    def _of_interval(self, pieces: list[tuple[datetime, datetime, Statement | None]]) -> list[Json]:
        runs: list[tuple[datetime, datetime, list[Statement | None]]] = []
        for left, right, said in pieces:
            if runs and who(runs[-1][2][-1]) == who(said):
                runs[-1] = (runs[-1][0], right, [*runs[-1][2], said])
            else:
                runs.append((left, right, [said]))
        vague = [any(said is not None and said.vague for said in said_of) for *_, said_of in runs]
        if len(runs) == 1 and not vague[0]:
            return self._account(runs[0][2], "normal")
        return [
            {**one, **({} if unknown else {"from": spelled(left), "to": spelled(right)})}
            for unknown, (left, right, said_of) in zip(vague, runs, strict=True)
            for one in self._account(said_of, "partial")
        ]

    def _of_instant(self, pieces: list[tuple[datetime, datetime, Statement | None]]) -> list[Json]:
        before, after = pieces[0][2], pieces[-1][2]
        if who(before) == who(after):
            return self._account([before, after], "normal")
        return self._account([before], "final") + self._account([after], "opening")

    def _account(self, said_of: list[Statement | None], role: str) -> list[Json]:
        said = newest([one for one in said_of if one is not None])
        return [] if said is None else [self._called(one, said.state, role) for one in said.holders]

    def _called(self, holder: Json, state: State, role: str) -> Json:
        account = {"account_id": holder["account_id"], "usage_point": holder["usage_point"], "role": role}
        for kind, member in (("account_number", "account_number"), ("legacy", "legacy_number")):
            name = holder.get(member)
            renamed = self.names.get((holder["account_id"], kind))
            if renamed is not None and renamed[0] > state:
                name = renamed[1]
            if name is not None:
                account[member] = name
        return account


def better_of(known: Reading, other: Reading) -> Reading:
    """The higher revision of two, with the stamp that counts."""
    better = replace(other if other.rank > known.rank else known)
    stamps = [one for one in (known, other) if one.stamped is not None]
    best = max(stamps, key=lambda one: one.stamped or ((0, 0), (0, 0)), default=better)
    better.stamp, better.stamped = best.stamp, best.stamped
    return better


def who(said: Statement | None) -> list[tuple[str, str]]:
    """The holder that a statement names."""
    return [] if said is None else said.who


def newest(statements: list[Statement]) -> Statement | None:
    """The statement of the highest state."""
    return max(statements, key=lambda one: one.state, default=None)


def stated(reading: Reading, state: State, holders: list[Json]) -> list[Statement]:
    """What a stamp says about the time that it was made for."""
    at, start = reading.at, reading.start
    if start is None or start == at:
        before = [one for one in holders if one["role"] in ("normal", "final")]
        after = [one for one in holders if one["role"] in ("normal", "opening")]
        return [
            Statement(at - TICK, at, state, before, reading.reason),
            Statement(at, at + TICK, state, after, reading.reason),
        ]
    if not holders:
        return [Statement(start, at, state, [], reading.reason)]
    if holders[0]["role"] == "normal":
        return [Statement(start, at, state, holders)]
    if any("from" not in one for one in holders):
        return [Statement(start, at, state, holders, vague=True)]
    found, reached = [], start
    for one in sorted(holders, key=lambda one: when(one["from"])):
        since, until = when(one["from"]), when(one["to"])
        if reached < since:
            found.append(Statement(reached, since, state, []))
        found.append(Statement(since, until, state, [one]))
        reached = until
    if reached < at:
        found.append(Statement(reached, at, state, []))
    return found

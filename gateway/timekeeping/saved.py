"""What is known of the time across restarts: one small file, and what a start learns from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from gateway.timekeeping.evidence import Observation, Voice
from protocols.durable import replace_file

FILE = "clock.json"
RESTORED_WITHIN = timedelta(minutes=2)
"""A machine that starts this near to the last instant it knew either was off for no time, or its clock stood."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedTime:
    """What was written last: our clock then, the last instant at which it was right, and who had said so.

    `boot` names the run of the machine; the observations mean something within the same run only.
    """

    boot: str
    seen: datetime
    right: datetime | None = None
    observations: tuple[Observation, ...] = ()

    def doubt(self, *, boot: str, now: datetime, started: datetime) -> str:
        """Say why the clock of a machine that started at `started` (by itself) is doubtful; "" when it is not."""
        if now <= self.seen - timedelta(seconds=1):
            return f"the clock is not after {self.seen.isoformat()}, which was the last instant that it had shown"
        if boot != self.boot and abs(started - self.seen) <= RESTORED_WITHIN:
            return "the clock went on where it stood before the machine was off: a saved time, not a running clock"
        return ""


def load_saved(path: Path) -> SavedTime | None:
    """Return what the file says; None where there is none, or it is damaged (then nothing is known)."""
    try:
        read = json.loads(path.read_bytes())
        return SavedTime(
            boot=str(read["boot"]),
            seen=_instant(read["seen"]),
            right=_instant(read["right"]) if read.get("right") else None,
            observations=tuple(
                Observation(
                    voice=Voice(one["voice"]),
                    source=str(one["source"]),
                    steady=float(one["steady"]),
                    instant=_instant(one["instant"]),
                    error=float(one["error"]),
                )
                for one in read["observations"]
            ),
        )
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def store_saved(path: Path, saved: SavedTime) -> None:
    """Write it durably; OSError when the disk refuses."""
    observations = [
        {
            "voice": one.voice.value,
            "source": one.source,
            "steady": one.steady,
            "instant": one.instant.isoformat(),
            "error": one.error,
        }
        for one in saved.observations
    ]
    text = json.dumps(
        {
            "boot": saved.boot,
            "seen": saved.seen.isoformat(),
            "right": None if saved.right is None else saved.right.isoformat(),
            "observations": observations,
        }
    )
    replace_file(path, text.encode())


def _instant(text: object) -> datetime:
    at = datetime.fromisoformat(str(text))
    if at.utcoffset() is None:
        raise ValueError(f"{text!r} has no zone")
    return at

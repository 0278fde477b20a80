"""What this machine itself says of its clock: the kernel, systemd-timesyncd, chrony; and its steady clock."""

from __future__ import annotations

import ctypes
import hashlib
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from gateway.timekeeping.evidence import Observation, Voice

TIMESYNC = Path("/run/systemd/timesync/synchronized")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MACHINE_ID = Path("/etc/machine-id")
CHRONY_PATIENCE = 2.0
"""Seconds that chronyc may take."""
TIMESYNC_OLDEST = 2 * 2048
"""Seconds: timesyncd asks at least each 2,048; one that did not hear twice is not synchronised any more."""
TIME_ERROR = 5
STA_UNSYNC = 0x0040
KERNEL_ERROR = 16.0
"""Seconds that the kernel gives as its greatest error where it knows none."""


class _Timex(ctypes.Structure):
    """struct timex of the kernel; only its head is read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 512),
    )


Source = Callable[[float, datetime], Iterable[Observation]]
"""(steady, now) -> what a source says then; nothing where it is not there or says that it does not know."""


def steady() -> float:
    """Return the seconds since the machine started, asleep or awake: nobody sets this clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """Return eight digits that name this run of the machine.

    Where it has no name that we may read (`ProcSubset=pid`), it is one for this run of the program: the same name for
    two runs of a machine would put captures of the one at instants of the other.
    """
    found = _short(BOOT_ID)
    return secrets.token_hex(4) if found == "unknown" else found


def machine_name() -> str:
    """Return eight digits that tell this machine from others: two roles on one machine share its clock."""
    return _short(MACHINE_ID)


def _short(path: Path) -> str:
    try:
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        text = ""
    return hashlib.blake2b(text.encode(), digest_size=4).hexdigest() if text else "unknown"


def kernel(at: float, now: datetime) -> list[Observation]:
    """Ask the kernel whether something disciplines its clock (`adjtimex`, which reads only)."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):  # another system than Linux
        return []
    return kernel_says(state, timex.status, timex.maxerror, at, now)


def kernel_says(state: int, status: int, maxerror: int, at: float, now: datetime) -> list[Observation]:
    """Read what `adjtimex` returned: `maxerror` in microseconds."""
    error = maxerror / 1e6
    if state in (-1, TIME_ERROR) or status & STA_UNSYNC or error >= KERNEL_ERROR:
        return []
    return [Observation(voice=Voice.HOST, source="kernel", steady=at, instant=now, error=error)]


def timesync(at: float, now: datetime, path: Path = TIMESYNC) -> list[Observation]:
    """Look when systemd-timesyncd last heard its server: it touches a file."""
    try:
        age = now.timestamp() - path.stat().st_mtime
    except OSError:
        return []
    if not -1 <= age <= TIMESYNC_OLDEST:
        return []
    return [Observation(voice=Voice.HOST, source="timesync", steady=at, instant=now, error=1.0)]


def chrony(at: float, now: datetime) -> list[Observation]:
    """Ask chronyd how far off the clock is."""
    program = shutil.which("chronyc")
    if program is None:
        return []
    try:
        done = subprocess.run(
            [program, "-c", "-n", "tracking"], capture_output=True, timeout=CHRONY_PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return []
    return chrony_says(done.stdout.decode(errors="replace"), at, now)


def chrony_says(line: str, at: float, now: datetime) -> list[Observation]:
    """Read a line of `chronyc -c tracking`: its error is root dispersion and half the root delay."""
    fields = line.strip().split(",")
    try:
        leap, offset = fields[13], float(fields[4])
        error = float(fields[11]) + float(fields[10]) / 2 + abs(offset)
    except (IndexError, ValueError):
        return []
    if leap == "Not synchronised" or not error < KERNEL_ERROR:
        return []
    return [Observation(voice=Voice.HOST, source="chrony", steady=at, instant=now, error=error)]


SOURCES: dict[str, Source] = {"kernel": kernel, "timesync": timesync, "chrony": chrony}
"""The host's sources by the names that `[time] sources` uses."""


def present() -> datetime:
    """Return what the machine's clock shows."""
    return datetime.now(UTC)

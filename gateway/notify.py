"""Tell systemd how we are: ready, stopping, alive (sd_notify(3))."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from time import monotonic

import structlog

from gateway.watch import Watch

log = structlog.get_logger("gateway")


def notify(state: str) -> None:
    """Send one state line (`READY=1`, `STOPPING=1`, `WATCHDOG=1`); does nothing when systemd did not start us.

    What systemd does not take is lost: a program must not end because nobody hears how it is.
    """
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]  # an abstract socket, as unix(7) writes it
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        with suppress(OSError):
            sock.connect(address)
            sock.sendall(state.encode())


def _watchdog_interval() -> float | None:
    """Return half of systemd's watchdog time in seconds, or None when it does not watch this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID")
    if not microseconds.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 2_000_000


async def keep_watchdog(watch: Watch) -> None:
    """Tell systemd again and again that all parts come round, until cancelled; returns at once when nobody watches.

    It runs in the event loop on purpose: a loop that hangs tells nothing, and systemd restarts the program. So it
    does when one of the watched parts is stuck, which the log then names.
    """
    interval = _watchdog_interval()
    while interval is not None:
        if stuck := watch.stuck(monotonic()):
            log.error("part_stuck", parts=stuck)
        else:
            notify("WATCHDOG=1")
        await asyncio.sleep(interval)

"""Ways to people's phones that need no provider: messages shown on this machine, or written to a file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from gateway.central.people.verification import masked_mobile
from gateway.central.telling.messages import Accepted, Handed, NotTaken, Outcome


class ConsoleProvider:
    """Shows messages on this machine instead of sending them: for demonstrations and tests only."""

    reports = False

    def __init__(self, show: Callable[[str], None]) -> None:
        self._show = show

    async def hand(self, message: Handed) -> Outcome:
        """Show the text, and the mobile masked."""
        self._show(f"to {masked_mobile(message.mobile)}: {message.rendered.text}")
        return Accepted(None)

    async def close(self) -> None:
        """Nothing is open."""


class FileProvider:
    """Appends each message as a line of JSON to a file (0600): for who sends them by other means."""

    reports = False

    def __init__(self, path: Path) -> None:
        self._path = path

    async def hand(self, message: Handed) -> Outcome:
        """Write the message durably."""
        rendered = message.rendered
        line = {
            "reference": message.id,
            "mobile": message.mobile,
            "text": rendered.text,
            "template": rendered.template,
            "language": rendered.language,
            "dlt_id": rendered.dlt_id,
            "header": rendered.header,
            "entity_id": rendered.entity_id,
        }
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(self._path, flags, 0o600), "ab") as file:
                file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return NotTaken(f"the file cannot be written: {error.strerror}", away=True)
        return Accepted(message.id)

    async def close(self) -> None:
        """Nothing is open."""

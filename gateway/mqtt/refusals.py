"""What a broker did not take, by topic: kept over connections, so that an alarm which can be sent tells of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

MAX_TOPICS = 100
"""Topics that are named; messages on others are only counted."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Messages on one topic that were not taken since the last one that was: how many, and why the last was not."""

    topic: str
    count: int
    reason: str


class Refusals:
    """The topics on which the broker does not take our messages, or that we may not hear."""

    def __init__(self) -> None:
        self._topics: dict[str, Refusal] = {}
        self.total = 0

    def refused(self, topic: str, reason: str) -> None:
        """Note a message that was not taken, or a subscription that was not granted."""
        self.total += 1
        known = self._topics.get(topic, Refusal(topic, 0, reason))
        if known.count or len(self._topics) < MAX_TOPICS:
            self._topics[topic] = replace(known, count=known.count + 1, reason=reason)

    def taken(self, topic: str) -> None:
        """Note that the broker takes messages on a topic."""
        self._topics.pop(topic, None)

    def all(self) -> list[Refusal]:
        """Return what is refused now, the topics refused first at the head."""
        return list(self._topics.values())

    @property
    def fault(self) -> str | None:
        """What to tell the operator; None where nothing is refused."""
        if not self._topics:
            return None
        first, *rest = self._topics.values()
        more = f", and {len(rest)} topics more" if rest else ""
        return f"{first.topic}: {first.count} not taken ({first.reason}){more}"

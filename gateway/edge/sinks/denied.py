"""Entries on topics that the broker's access rules deny: remembered as ranges until the rules are mended.

All other topics go on. The cursor stays before the first denied entry, so that nothing of it is taken for delivered;
what was delivered behind it is remembered over connections, and not sent again by the next. Does no I/O.
"""

from __future__ import annotations

from gateway.edge.sinks.batching import OutgoingBatch


class DeniedTopics:
    """What was denied, by topic, from the first to the last seq; lives as long as the sink."""

    def __init__(self) -> None:
        self._ranges: dict[str, tuple[int, int]] = {}
        self.delivered = 0

    def __contains__(self, topic: str) -> bool:
        return topic in self._ranges

    def ranges(self) -> dict[str, tuple[int, int]]:
        """Return first and last seq by topic: what is to be sent again, once it may."""
        return dict(self._ranges)

    def deny(self, batch: OutgoingBatch) -> None:
        """Note that a batch was not taken on its topic, or would not be."""
        # Denials come in any order: a batch that was cut in halves is denied after those that followed it.
        first, last = self._ranges.get(batch.topic, (batch.first, 0))
        self._ranges[batch.topic] = (min(first, batch.first), max(last, batch.entries[-1].last))

    def taken(self, topic: str, seq: int) -> bool:
        """Note that everything of a topic up to `seq` was taken; return whether that was all."""
        _, last = self._ranges[topic]
        if seq < last:
            self._ranges[topic] = (seq + 1, last)
            return False
        del self._ranges[topic]
        return True

    def cursor(self, sent: int) -> int:
        """Return how far the journal's cursor may move when everything up to `sent` was sent or denied."""
        self.delivered = max(self.delivered, sent)
        return min([sent, *(first - 1 for first, _ in self._ranges.values())])

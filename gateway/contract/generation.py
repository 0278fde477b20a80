"""Which life of a store a word speaks of, for those who read no messages; made in `messages.generation`."""

from __future__ import annotations

from gateway.contract.messages.generation import (
    MAX_COUNTER,
    NO_GENERATION,
    DirectoryVersion,
    DirectoryVersionText,
    Generation,
    GenerationText,
)

__all__ = [
    "MAX_COUNTER",
    "NO_GENERATION",
    "DirectoryVersion",
    "DirectoryVersionText",
    "Generation",
    "GenerationText",
]

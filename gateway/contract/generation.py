"""Generations of stores, as those who are no messages import them (`gateway.contract.messages.generation`)."""

from __future__ import annotations

from gateway.contract.messages.generation import MAX_COUNTER, NO_GENERATION, Generation, GenerationText

__all__ = ["MAX_COUNTER", "NO_GENERATION", "Generation", "GenerationText"]

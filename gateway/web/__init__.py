"""Pages for operators and consumers; reads central only."""

"""Times that are not trusted: what speaks of them, and central's verdicts."""

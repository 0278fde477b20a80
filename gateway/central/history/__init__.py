"""What consumers that joined late ask central for: pages of readings, attributions and verdicts, from the ledger."""

"""The central role: directory, ledger, reconciliation."""

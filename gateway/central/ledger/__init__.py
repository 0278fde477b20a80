"""The ledger: every capture for ever, what is missing, and the questions that are asked of it."""

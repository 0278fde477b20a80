"""Stamping: each capture gets the accounts that held its meter at its own time."""

"""Talking to meters: bytes to reading sets and back. Knows no account, broker or database."""

"""Whose reading it is: numbers, directory and re-key. Knows no protocol, broker or page."""

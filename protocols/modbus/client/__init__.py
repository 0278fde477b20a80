"""Asking one unit over a line, and what is known of the line from turn to turn."""

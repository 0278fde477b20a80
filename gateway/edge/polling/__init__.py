"""Polling: when each meter is asked for what, what is collected, and how meters and lines are."""

"""Data notifications: framing, deciphering, layouts, the listener and meters that dial in."""

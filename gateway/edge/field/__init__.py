"""A running edge serves the people in the field: its lines by turns, its counters, a reload of its configuration."""

"""Meters' keys on the edge box: those in force, changes under way, and what central gives."""

"""Faults as scripts: what a bad meter or line does, and where it is put in."""

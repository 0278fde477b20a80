"""Commands that need no installation: demo, simulate, decode."""

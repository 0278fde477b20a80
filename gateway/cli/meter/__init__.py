"""Commands for one meter or line: read, scan, clock, relay, events, explore, commission, replace."""

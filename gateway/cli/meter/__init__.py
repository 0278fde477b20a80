"""Commands that talk to one meter or line: read, scan, clock, relay, events, explore."""

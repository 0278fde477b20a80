"""The server side: what a simulated or replayed meter answers."""

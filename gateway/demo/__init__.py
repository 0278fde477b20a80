"""The demonstration: a small town of simulated meters, an embedded broker, and its story."""

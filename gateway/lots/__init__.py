"""Work on many meters by a plan: how fast, when, until which failures; durable, and gone on with after a crash."""

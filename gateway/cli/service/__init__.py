"""Commands of whoever runs the gateway: run, check, outbox, replay, listen."""

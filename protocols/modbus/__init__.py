"""Modbus meters: register decoding, block planning, client."""

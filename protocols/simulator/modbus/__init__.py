"""Simulated Modbus meters: their registers, and the ports that serve them."""

"""Simulated meters that answer on real sockets and ptys."""

"""Simulated DLMS meters on ports, and what they send by themselves."""

"""Upgrading a meter's firmware by image transfer (class 18): which image fits, and the steps to it."""

"""The running program: edge, central, portal and the commands that people type."""

__version__ = "0.1.0"

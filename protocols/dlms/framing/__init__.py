"""Framing: HDLC, the TCP/UDP wrapper and the mode E opening (Green Book 7 and 8, IEC 62056-21)."""

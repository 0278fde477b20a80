"""APDUs: each declared with its encoding, decoding and names (Green Book 9)."""

"""Security suites: ciphering, HLS mechanisms, signatures, certificates and key wrap (Green Book 9.2)."""

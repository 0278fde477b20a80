"""Security suite 0: ciphering, HLS mechanisms and key wrap (Green Book 9.2)."""

"""Acts on a meter: what changes something in it, and how it is proved that it did."""

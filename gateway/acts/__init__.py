"""Acts on meters that commands order today and the order channel later: what is done, to whom, and its record."""

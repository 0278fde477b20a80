"""Central's sealed store of meters' keys: what edges escrow, what makers consign, and who is given what."""

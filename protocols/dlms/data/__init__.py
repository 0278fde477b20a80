"""COSEM data: types, A-XDR, dates and times, units and values (Blue Book 4)."""

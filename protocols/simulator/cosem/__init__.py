"""A simulated DLMS/COSEM meter: its objects, access rights, rows, relay and pushes."""

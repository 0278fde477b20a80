"""Opening any meter: the driver that its settings name, on the line it is given."""

"""A meter's whole object list, read, shown, and kept as a file."""

"""A neighbourhood of meters: its plan, the files that describe it, and how it is served."""

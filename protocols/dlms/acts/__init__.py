"""Named acts on a meter: what each writes, and how it is known to have taken effect."""

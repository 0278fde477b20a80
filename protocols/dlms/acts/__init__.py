<<<<<<< HEAD
"""Named acts on a meter: what each writes, and how it is known to have taken effect."""
=======
"""Acts on a meter: what changes something in it, and how it is proved that it did."""
>>>>>>> main

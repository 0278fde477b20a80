"""A conversation with one meter: who it is, what is due, its load survey, what may be changed in it."""

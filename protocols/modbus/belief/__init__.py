"""Whether what a meter gave can be believed, and what was believed before."""

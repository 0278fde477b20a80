"""Whether a clock is right: evidence is gathered, judged and kept; nobody's word alone moves a time."""

"""Where the journal is delivered to."""

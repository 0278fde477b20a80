"""Reading profiles from a meter: layouts kept, selective access, long reads resumed."""

"""What meters send of themselves: who may push, their counters, and the way into the journal."""

"""How requests and answers stand on a line, and the hunt for the right answer; pure."""

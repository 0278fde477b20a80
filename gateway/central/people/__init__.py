"""What central keeps of people: mobiles with history, what was told them, and for how long."""

"""What central keeps of people: mobiles with history, what was told them, who saw what, for how long."""

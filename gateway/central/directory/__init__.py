"""The directory at central: stores changes, cuts each edge its part, publishes what changed."""

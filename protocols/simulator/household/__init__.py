"""A household: demand, supply, balance and the meter's memory of them."""

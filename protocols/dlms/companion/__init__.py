"""IS 15959 as data: associations, profiles, prepayment objects, event codes."""

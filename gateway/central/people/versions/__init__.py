"""Steps of the people store's tables, one file each."""

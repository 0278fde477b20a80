"""The steps that bring the campaign's tables to the newest version."""

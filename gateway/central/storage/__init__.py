"""What central's stores share: numbered versions of their tables, and the way from one to the next."""

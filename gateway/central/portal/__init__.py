"""What the pages show and who may see it: read models, registered mobiles, one-time codes."""

"""The roles put together: edge, central, portal and field commands, from the configuration."""

"""The roles put together from the configuration: edge, central, portal, and the visits of a field engineer."""

"""Commands about meters' keys: changed at the edge, kept and given at central, opened by the utility."""

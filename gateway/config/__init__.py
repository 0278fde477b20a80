"""The configuration file: its sections, its checks, and where in the file a mistake stands."""

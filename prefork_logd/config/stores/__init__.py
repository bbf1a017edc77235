"""Settings of stores, a file a kind."""

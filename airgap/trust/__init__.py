"""Keys, the trust store, and whose signature counts."""

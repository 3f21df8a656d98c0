"""``airgap man``."""

"""Sources into records. Runs on the isolated host and loads no network module."""

"""The capture endpoint: what servers of the isolated network report, kept in the outbox."""

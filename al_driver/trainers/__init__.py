"""Models: one file a trainer."""

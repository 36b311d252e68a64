"""Reference calculations: one file an engine."""

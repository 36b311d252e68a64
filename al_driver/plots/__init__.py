"""Pictures of a run: what they show is gathered in plain arrays, and each module draws one of them."""

"""Property surrogates: candidate crystals, and models that tell which of them are worth a calculation."""

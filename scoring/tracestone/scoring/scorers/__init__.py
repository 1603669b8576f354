"""What a scorer is, and the scorers that need no model."""

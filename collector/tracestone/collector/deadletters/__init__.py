"""What was given up, for a person: listed, shown, sent again, thrown away."""

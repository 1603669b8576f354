"""What tokens cost: the shipped prices, those of a deployment, and the SQL that prices a span."""

"""One module per aggregate: what is read from and written to the stores."""

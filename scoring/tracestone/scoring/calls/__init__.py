"""What stands between a judge and its provider: budgets, limits, what was asked before."""

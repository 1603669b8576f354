"""What MLflow's client sends, in our terms."""

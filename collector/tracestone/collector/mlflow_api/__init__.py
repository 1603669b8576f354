"""MLflow's REST API."""

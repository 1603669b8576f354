"""What Tracestone counts about itself, and how Prometheus reads it."""

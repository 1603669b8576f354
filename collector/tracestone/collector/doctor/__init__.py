"""`tracestone doctor`: what would keep Tracestone from working, and what to do about it."""

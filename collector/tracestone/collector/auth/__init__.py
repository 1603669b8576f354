"""Who may send and read: API keys, checked on every port before a body is read."""

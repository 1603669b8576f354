"""Receivers in processes of their own: how they are started, followed and stopped."""

"""Watcher, sampler, workers, scorers and judges."""

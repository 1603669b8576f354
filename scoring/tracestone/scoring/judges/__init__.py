"""LLM judges: prompt, call, verdict."""

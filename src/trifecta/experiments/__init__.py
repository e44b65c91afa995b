"""Starts runs to answer a question."""

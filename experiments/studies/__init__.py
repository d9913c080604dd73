"""Experiments of the project's own: they belong to no paper."""

"""Checks: zhou2022."""

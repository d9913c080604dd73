"""Checks: xu2021."""

"""Checks: santiago2021."""

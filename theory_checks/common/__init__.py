"""Checks: common."""

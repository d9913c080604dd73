"""Checks: ren2018."""

"""Weighting schemes, a file a method or a family that shares a formula."""

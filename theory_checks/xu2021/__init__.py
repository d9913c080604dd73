"""Importance weighting and the implicit bias of descent (xu2021): theorems, lemmas, tails."""

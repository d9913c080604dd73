"""Difficulty as generalization error (zhou2022): propositions, theorems and discussion."""

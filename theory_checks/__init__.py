"""The papers' claims, checked in numbers: one file per group of claims.

Run `python -m theory_checks`. Each check states a claim, measures it with independent
implementations, in float64 unless it says otherwise, and compares every number with its bound.
"""

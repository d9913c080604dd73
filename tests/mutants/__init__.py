"""Mutation testing of `weighting/`: small faults, planted one at a time, that some test must see.

`python -m tests.mutants` (or `make mutants`) plants them. `mutations` says what a fault is,
`matching` which tests ought to see it, `workshop` runs them on a copy, `reporting` counts.
"""

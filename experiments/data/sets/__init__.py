"""The datasets: a file each (one for a few of a kind), and the table that collects their records.

A new dataset is its file and its line in `table`; loading, `python -m experiments list`, the errors
about names and the names of classes in figures follow.
"""

"""Train steps compiled for machines that are not here: do they fit, what do they cost?"""

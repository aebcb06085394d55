"""What matters where a model is used: whether it knows when it is wrong, and how often modalities
are there.
"""

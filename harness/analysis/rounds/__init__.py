"""Rounds of seeds: what a look at the results leaves open, and who gets further seeds."""

"""How results are shown; what is shown is decided in harness/results.py."""

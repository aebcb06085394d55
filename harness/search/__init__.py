"""The search of hyperparameters on val: its plan, its journal, its results."""

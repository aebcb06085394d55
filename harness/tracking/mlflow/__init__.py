"""MLflow as a tracker: one run per trial, one per row, one of the study."""

"""From YAML and key=value to a list of trials: settings, rows, plans."""

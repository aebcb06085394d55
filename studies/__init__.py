"""Studies: one flat YAML file each; reference/ holds published numbers."""

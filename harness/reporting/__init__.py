"""Documents: sections, text, figures, and one writer per format."""

"""What the manifest dataset infers from a CSV and the files that it names."""

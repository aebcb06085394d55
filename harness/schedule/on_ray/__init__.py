"""Ray as an executor: the driver's half, the process that Ray runs in, and what passes between."""

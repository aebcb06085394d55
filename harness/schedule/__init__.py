"""Who runs trials, and how a driver follows them."""

"""What nodes of a cluster do: they show that they are fit, are chosen for trials, and train."""

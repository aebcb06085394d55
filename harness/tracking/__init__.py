"""The store mirrored to a tracker, by the driver alone: the interface, and MLflow behind it."""

"""The store mirrored to a tracker, by the driver alone."""

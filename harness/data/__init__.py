"""From files to batches: the prepared cache, pictures, augmentation. Datasets call it."""

"""The forms in which copies of NYUv2 exist, its labels and its splits."""

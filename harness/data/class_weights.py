"""Class weights of a segmentation loss, from the training labels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def median_frequency(targets: Iterable[Tensor], classes: int) -> tuple[float, ...]:
    """w_c = median(f) / f_c, the class weights of Eigen and Fergus (ICCV 2015).

    f_c = pixels of class c / pixels of all images that contain c. Void pixels count in an image's
    size and have no weight. A class without any pixel has weight 0 and no part in the median, which
    is the mean of the middle two for an even number of classes.

    Args:
        targets: label maps, (H, W) int64 each; every value from ``classes`` on is void.
        classes: K.

    >>> median_frequency([torch.tensor([[0, 0], [0, 1]]), torch.tensor([[1, 1], [255, 255]])], 3)
    (0.75, 1.5, 0.0)
    """
    own = torch.zeros(classes, dtype=torch.float64)
    images = torch.zeros(classes, dtype=torch.float64)
    for target in targets:
        counts = torch.bincount(target.flatten(), minlength=classes)[:classes]
        own += counts
        images += (counts > 0) * target.numel()
    frequency = own / images
    median = frequency[own > 0].quantile(0.5)
    return tuple(torch.where(own > 0, median / frequency, 0.0).tolist())

"""How much the encoders of two modalities say the same: the inter-channel distance of the DMRNet
paper.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def channel_distance(first: Tensor, second: Tensor) -> Tensor:
    """D (B, c, c) of two encoders' maps (B, c, h, w): one minus the row-normalised Gram matrix (Eq.
    14-15).

    G = F_m F_n^T with F reshaped to c x (h*w), D[k, :] = 1 - G[k, :] / ||G[k, :]||_2. Taken from
    encoder outputs before masking, all modalities present, in evaluation mode. Non-negative maps
    give a mean between 1 - 1/sqrt(c) and 1 - 1/c.
    """
    gram = first.flatten(2) @ second.flatten(2).transpose(1, 2)
    return 1 - F.normalize(gram, dim=2)

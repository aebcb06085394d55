"""Local pretrained weights: a state dict in torchvision's layout.

It is read from a file of the user's and never fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import UserError, shown
from harness.protocol.hyperparameters import Value
from harness.store import file_sha256

PREFIXES = ("module.", "encoder.")
"""What wrappers put before all names."""

CLASSIFIER = "fc."
STEM = "conv1.weight"
SHOWN = 5
"""Names that a sentence lists at most."""


class Pretrained:
    """One state dict with which every encoder starts.

    It has ``conv1``, ``bn1``, ``layer1`` ... ``layer4`` and, left out, ``fc``.

    The file holds the dict itself or has it under ``state_dict``; a prefix ``module.`` or
    ``encoder.`` of all names is taken off. A one-channel stem gets the sum of the three input
    channels of ``conv1``.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        self.sha256 = _digest(path)
        if sha256 and sha256.lower() != self.sha256:
            raise UserError(
                f"backbone.pretrained={path} has the sha256 {self.sha256}, not"
                f" backbone.pretrained_sha256={sha256}"
            )
        self.path = path
        self.weights = _read(path)
        self.used: set[str] = set()

    @classmethod
    def of(cls, values: dict[str, Value]) -> Pretrained | None:
        """What the options ``pretrained`` and ``pretrained_sha256`` ask for.

        Writes the file's sha256 into ``values``.
        """
        path, sha256 = str(values["pretrained"]), str(values["pretrained_sha256"])
        if path != "none":
            found = cls(Path(path), sha256)
            values["pretrained_sha256"] = found.sha256
            return found
        if sha256:
            raise UserError(
                f"backbone.pretrained_sha256={sha256} needs its file: give backbone.pretrained=PATH"
            )
        return None

    def load(self, module: nn.Module, owner: str) -> None:
        """Fill ``module`` from the entries that its own names select.

        UserError naming what is missing or of another shape.
        """
        own = module.state_dict()
        # Files from before PyTorch 0.4.1 do not count batches; the count is not used.
        needed = [name for name in own if not name.endswith("num_batches_tracked")]
        given = {name: self.weights[name] for name in needed if name in self.weights}
        if STEM in given and own[STEM].shape[1] == 1 and given[STEM].shape[1] == 3:
            # What the stem computes of grey that is stored as three equal channels.
            given[STEM] = given[STEM].sum(1, keepdim=True)
        missing = [name for name in needed if name not in given]
        unlike = [name for name in given if given[name].shape != own[name].shape]
        if missing or unlike:
            what = f"has other shapes in {shown(unlike, SHOWN)}"
            if missing:
                what = f"lacks {shown(missing, SHOWN)}"
            raise UserError(
                f"backbone.pretrained={self.path} {what} for the {owner}; check backbone.encoder"
                " and backbone.width"
            )
        module.load_state_dict(given, strict=False)
        self.used |= given.keys()

    def remark(self) -> str:
        """Which file the encoders started from, and what of it nobody asked for."""
        unused = [
            name
            for name in sorted(self.weights.keys() - self.used)
            if not (name.startswith(CLASSIFIER) or name.endswith("num_batches_tracked"))
        ]
        report = "all names in it but fc.* were used"
        if unused:
            report = f"names in it that no encoder has: {shown(unused, SHOWN)}"
        return (
            f"encoders started from local pretrained weights (sha256 {self.sha256}); none was"
            f" missing, {report}"
        )


def _digest(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise UserError(
            f"backbone.pretrained={path} cannot be read ({error.strerror}); give a local file, or"
            " none"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"backbone.pretrained={path} is not a file of tensors that torch.load reads with"
            " weights_only"
        ) from error
    if isinstance(content, Mapping):
        content = content.get("state_dict", content)
    if not isinstance(content, Mapping) or not all(
        isinstance(value, Tensor) for value in content.values()
    ):
        raise UserError(f"backbone.pretrained={path} does not hold a state dict (name -> tensor)")
    weights = {_bare(str(name)): value for name, value in content.items()}
    unusable = [name for name, value in weights.items() if not _is_plain(value)]
    if unusable:
        raise UserError(
            f"backbone.pretrained={path} holds tensors that are sparse, quantised or of no real"
            f" numbers: {shown(unusable, SHOWN)}"
        )
    return weights


def _bare(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _is_plain(value: Tensor) -> bool:
    real = not value.is_complex() and not value.is_quantized
    return value.layout == torch.strided and real

"""What is decoded once of each image of NYUv2: picture, depth and label, as prepared arrays.

Called by datasets/nyuv2.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from datasets._nyuv2.labels import Array, inferred_unit, millimetres
from datasets._nyuv2.layouts import Copy, Kind, Size
from datasets._tables import fingerprint_of, spread
from harness.data.prepared import PreparedTable, Unreadable
from harness.protocol.label_maps import VOID

HOLE = 2842
"""What a hole of raw depth is stored as, and the mean that is then subtracted: holes are exactly 0
when they are normalised.
"""

LOOKED_AT = 12
"""Training images whose depth tells its unit."""


@dataclass(frozen=True)
class Decoder:
    """Decodes the images of a copy at one size.

    Attributes:
        copy: where they come from.
        size: (H, W) that is stored.
        classes: 40 or 13.
        depth: refined or raw.
        depth_unit: of the copy's depth, or ``auto``.
        train: the training images, a few of which tell the unit.
    """

    copy: Copy
    size: Size
    classes: int
    depth: str
    depth_unit: str
    train: tuple[int, ...]

    @property
    def operations(self) -> dict[str, str]:
        """What is done to a file of each kind, in words that change when the arrays do."""
        height, width = self.size
        holes = f", holes {HOLE}" if self.depth == "raw" else ""
        depth = (
            f"{self.depth}, unit {self.depth_unit}, whole mm"
            f" (truncated){holes}, nearest {height}x{width}"
        )
        label = f"{self.classes} classes, void {VOID}, nearest {height}x{width}"
        return {"rgb": f"RGB, bilinear {height}x{width}", "depth": depth, "label": label}

    def table(self, split: str, kind: Kind, images: tuple[int, ...]) -> PreparedTable:
        """The prepared array of one kind of the images of a split."""
        copy, size = self.copy, self.size
        read: dict[str, Callable[[int], Array]] = {
            "rgb": lambda row: copy.rgb(images[row], size),
            "depth": lambda row: self._depth(images[row]),
            "label": lambda row: copy.target(images[row], size),
        }
        shapes = {"rgb": (3, *size), "depth": (1, *size), "label": size}
        types = {"rgb": "uint8", "depth": "int16", "label": "uint8"}
        # The ids too: rows of the .mat all have the same source.
        operation = (
            f"nyuv2/v1 {copy.layout} {copy.labelling} {self.operations[kind]} of"
            f" {fingerprint_of([], ids=images)}"
        )
        return PreparedTable(
            f"nyuv2-{split}-{kind}",
            shapes[kind],
            types[kind],
            operation,
            tuple(copy.source(kind, image) for image in images),
            read[kind],
            copy.libraries,
        )

    @cached_property
    def unit(self) -> tuple[str, str]:
        """The unit of depth, and a sentence that says how it is known."""
        maps = []
        for image in spread(self.train, LOOKED_AT):
            # One that cannot be decoded is told, or left out, when all are.
            with suppress(Unreadable):
                maps.append(self.copy.depth(image, self.size))
        return inferred_unit(self.depth_unit, maps)

    def _depth(self, image: int) -> Array:
        """(1, H, W) in whole millimetres; Unreadable where that makes no sense."""
        found = self.copy.depth(image, self.size)
        try:
            depth = millimetres(found, self.unit[0])
        except ValueError as error:
            reason = f"{error}; dataset.options.depth_unit names another"
            raise Unreadable(self.copy.source("depth", image), reason) from error
        if self.depth == "raw":
            depth[depth == 0] = HOLE
        return depth

"""Finding out in which form a user has NYUv2."""

from __future__ import annotations

from pathlib import Path

from datasets._nyuv2.layouts import Copy, PictureCopy, find_layout
from datasets._nyuv2.mat import MAT, MatCopy
from harness.errors import UserError

FORMS = (
    f"{MAT} with splits.mat and classMapping40.mat, or the layout of ESANet (train/rgb,"
    " train/depth, train/labels_40, train.txt), of nicr-scene-analysis-datasets"
    " (train/semantic_40) or of nyuv2-python-toolkit (image/train, seg40/train)"
)


def find_copy(root: Path, classes: int, raw: bool) -> Copy:
    """The copy below ``root`` with the labels of ``classes`` classes and refined or raw depth.

    UserError where there is none.
    """
    layout = find_layout(root)
    if (root / MAT).is_file():
        copy = MatCopy(root, classes, raw)
        if layout is not None:
            copy.remarks.append(
                f"both {MAT} and the layout of {layout.name} are there; the first was read"
            )
        return copy
    if layout is None:
        raise UserError(f"{root} has none of NYUv2's layouts; dataset.root must hold {FORMS}")
    return PictureCopy(root, layout, classes, raw)

"""What a study may say about NYUv2 (``dataset.options.NAME``)."""

from __future__ import annotations

from harness.protocol.hyperparameters import Range

OPTIONS: dict[str, Range] = {
    "classes": Range(40, choices=(40, 13), help="label set"),
    "height": Range(
        480,
        low=32,
        high=480,
        limits=(16, 1024),
        help="of pictures and labels; 480 as published",
    ),
    "width": Range(
        640,
        low=32,
        high=640,
        limits=(16, 1024),
        help="640 as published; smaller for quick trials",
    ),
    "depth": Range(
        "refined",
        choices=("refined", "raw"),
        help="refined: holes filled in; raw: holes are 0 when normalised",
    ),
    "depth_unit": Range(
        "auto",
        choices=("auto", "m", "mm", "0.1mm"),
        help="auto: by the range of a few training images",
    ),
    "class_weights": Range(
        "median_frequency",
        choices=("median_frequency", "none"),
        help="of the loss, from training labels",
    ),
    "counts": Range(
        "official",
        choices=("official", "any"),
        help="official: refuse a copy without the 795/654 images",
    ),
    "unreadable": Range(
        "exclude", choices=("exclude", "fatal"), help="files that cannot be decoded"
    ),
}

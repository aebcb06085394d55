"""What a study may say about a manifest (``dataset.options.NAME``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.dataset import TASKS
from harness.protocol.hyperparameters import Range

OPTIONS: dict[str, Range] = {
    "task": Range(
        "auto",
        choices=("auto", *TASKS),
        help=(
            "auto: by the label column; live against attack or spoof is anti-spoofing; regression:"
            " labels are numbers, predicted as such"
        ),
    ),
    "modalities": Range(
        "",
        help=(
            "columns that are modalities, in this order; empty: all but split, label, label_path"
            " and group that name files"
        ),
    ),
    "classes": Range(
        "",
        help=(
            "all classes in their order, comma-separated; for label maps names or their number;"
            " empty: as found"
        ),
    ),
    "values": Range(
        "",
        help=(
            "label maps: the stored numbers that are classes 0, 1, ...; empty: the numbers are the"
            " classes"
        ),
    ),
    "void": Range(
        255,
        limits=(-1, 65535),
        help="label maps: the stored number of pixels that count nowhere; -1: there is none",
    ),
    "size": Range(
        "auto",
        help=(
            "of pictures and maps, HxW, or per column rgb:64x96,depth:32x32; auto: as stored, at"
            " most 256"
        ),
    ),
    "channels_last": Range(
        "", help="columns whose arrays have channels last: (H, W, C), or series (time, channels)"
    ),
    "vectors": Range(
        "auto",
        choices=("auto", "features", "sequence"),
        help="1-D arrays; auto: features up to 1,024 values",
    ),
    "arrays": Range(
        "auto",
        help=(
            "2-D arrays: series (channels, time), each channel normalised by itself, frames (time,"
            " features) likewise, or picture (height, width), or per column"
            " imu:series,text:frames,map:picture; auto: series where the first side is at most 16"
            " and the second four times as long, and where most files differ in the length of one"
            " side, which is time"
        ),
    ),
    "frames": Range(
        0,
        limits=(0, 100_000),
        help=(
            "series of unequal lengths: at most the first so many frames; 0: as many as the longest"
            " has"
        ),
        added_later=True,
    ),
    "rate": Range(
        0,
        limits=(0, 768_000),
        help="sound is resampled to this rate in Hz; 0: the most frequent one of the column",
    ),
    "seconds": Range(
        0.0, limits=(0.0, 3600.0), help="length of sound; 0: what 95 % of the files do not exceed"
    ),
    "front_end": Range(
        "auto",
        choices=("auto", "A", "B", "C", "D"),
        help=(
            "spectrogram; auto: log magnitude, windows of about 32 ms, each clip standardised (B"
            " keeps its level)"
        ),
    ),
    "val_share": Range(
        0.15,
        limits=(0.01, 0.9),
        help="share of train that becomes val where the manifest has no val",
    ),
    "split_seed": Range(0, limits=(0, 2**31 - 1), help="seed of that share"),
    "aligned": Range(
        "auto",
        choices=("auto", "yes", "no"),
        help="a place is the same in all modalities; auto: pictures of one size",
    ),
    "fold_case": Range(
        False, help="labels that differ in upper and lower case alone are one class"
    ),
    "unreadable": Range(
        "exclude",
        choices=("exclude", "fatal"),
        help="files that cannot be decoded: leave their samples out, or stop",
    ),
    "synthetic": Range(False, help="the data are generated; results say so"),
}


def as_declared(given: Mapping[str, Any]) -> dict[str, Any]:
    """Option values as text where text is declared.

    A study file naturally has lists, which become comma-separated, numbers and yes/no.
    """
    return {
        key: _text(value) if key in OPTIONS and isinstance(OPTIONS[key].default, str) else value
        for key, value in given.items()
    }


def _text(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(str(item) for item in value)
    return str(value) if isinstance(value, int | float) else value

"""Columns of sounds: the rate, the length and the spectrogram that they are brought to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from datasets._manifest.columns.column import Column, Headers
from datasets._manifest.formats import FLOAT
from datasets._media.audio import FRONT_ENDS, FrontEnd, front_end
from harness.protocol.hyperparameters import Value

WINDOW_SECONDS = 0.032


def sound_column(name: str, found: Headers, options: Mapping[str, Value]) -> Column:
    """A column of sounds, at the most frequent rate and with the length of most of them unless
    options say otherwise.
    """
    rates = Counter(header.rate for _, header in found)
    lengths = sorted(header.shape[0] / header.rate for _, header in found)
    rate = int(options["rate"]) or rates.most_common(1)[0][0]
    seconds = float(options["seconds"]) or _covering(lengths)
    chosen = _front_end(str(options["front_end"]), rate, seconds)
    # Numbers with a decimal point have no full scale; other samples never leave -1 to 1.
    if chosen.name == "auto" and any(header.detail == FLOAT for _, header in found):
        chosen = replace(chosen, clipped=False)
    remarks = []
    if set(rates) != {chosen.rate}:
        others = ", ".join(map(str, sorted(rates)))
        remarks.append(f"'{name}' is resampled from {others} Hz to {chosen.rate} Hz")
    if lengths[0] != lengths[-1]:
        remarks.append(
            f"'{name}' lasts {lengths[0]:.2f} to {lengths[-1]:.2f} s and is brought to"
            f" {chosen.seconds:g} s: longer sound is cut, shorter repeated; dataset.options.seconds"
            " changes that"
        )
    windows = f"windows of {chosen.window} every {chosen.hop}"
    what = (
        f"{len(found):,} wav files as log spectrograms, {chosen.rate} Hz, {chosen.seconds:g} s,"
        f" {windows}"
    )
    return Column(
        name=name,
        kind="audio",
        shape=chosen.shape,
        dtype="float16",
        operation=chosen.describe(),
        read=chosen.read,
        what=what,
        remarks=tuple(remarks),
        sensor="sound",
        front_end=chosen,
    )


def _covering(lengths: Sequence[float]) -> float:
    """The length that 95 % of the files do not exceed, in hundredths of a second, rounded up."""
    # inverted_cdf gives the length of a file, never one between two files.
    hundredths = np.quantile(lengths, 0.95, method="inverted_cdf") * 100
    # 1.1 * 100 is 110.00000000000001, which is not to become 111.
    return float(np.ceil(hundredths - 1e-9) / 100)


def _front_end(name: str, rate: int, seconds: float) -> FrontEnd:
    """A published front-end by name, or ``auto``: windows of about 32 ms, every clip standardised.

    Level and background mostly belong to the recording, not to the class; front-end B keeps them.
    """
    if name != "auto":
        return front_end(name, seconds)
    # The nearest power of two, on the scale of logarithms.
    window = max(16, 1 << round(np.log2(rate * WINDOW_SECONDS)))
    return replace(
        FRONT_ENDS["B"],
        name="auto",
        rate=rate,
        # A shorter sound would have no window at all.
        seconds=max(seconds, window / rate),
        window=window,
        hop=window // 2,
        standardised=True,
    )

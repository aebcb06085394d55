"""What a study's plan and report say of the arithmetic of its trials (train.precision)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.study.rows import Row
from harness.study.settings import Study
from harness.training.recipe import evaluated_in

CPU_FLAGS = ("avx512_bf16", "amx_bf16")
"""What /proc/cpuinfo calls instructions on bfloat16."""


def precision_sentence(study: Study) -> str | None:
    """In what trials are trained and evaluated; None where both are float32."""
    trained, evaluated = study.train.precision, evaluated_in(study.evaluation, study.train)
    if trained == evaluated == "float32":
        return None
    if trained == evaluated:
        return f"trials are trained and evaluated in {trained}"
    return f"trials are trained in {trained} and evaluated in {evaluated}"


def arithmetic_lines(study: Study, rows: Sequence[Row], device: str) -> list[str]:
    """The lines of a plan on its arithmetic, and on rows that do not survive it.

    None of them where all of it is float32. ``device`` is what trials are trained on.
    """
    sentence = precision_sentence(study)
    if sentence is None:
        return []
    used = (study.train.precision, evaluated_in(study.evaluation, study.train))
    remark = ""
    if device == "cpu" and "tf32" in used:
        remark = "; a CPU has no TF32 and computes it as float32"
    if device == "cpu" and "bf16" in used and not _multiplies_bfloat16():
        remark = "; this CPU has no instructions for bfloat16, which is slower on it than float32"
    lost = [
        f"{row.label} does not survive bf16: {row.method_class.float32_only}"
        for row in rows
        if "bf16" in used and row.method_class.float32_only
    ]
    return [sentence + remark, *lost]


def _multiplies_bfloat16() -> bool:
    """Whether this CPU says that it does; where it says nothing, it may."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return True
    said = info.read_text(encoding="utf-8", errors="replace")
    return any(flag in said for flag in CPU_FLAGS)

"""Audio-visual specs and models: published shapes, and narrow networks on small inputs.

Called by tests of backbones, methods and studies.
"""

from __future__ import annotations

from torch import Tensor

from harness.backbones.audio_visual import AudioVisual
from harness.conformance.synthetic import Case, synthetic_split
from harness.dataset import DataSpec, Modality
from harness.method import Method
from harness.protocol.hyperparameters import Value
from harness.protocol.seeds import Streams

SMALL = ((1, 33, 40), (3, 32, 32))
TINY = ((1, 9, 12), (3, 8, 8))
Shapes = tuple[tuple[int, int, int], ...]


def heard_and_seen(shapes: Shapes = ((1, 257, 299), (3, 224, 224)), classes: int = 6) -> DataSpec:
    """Audio, then visual; more modalities are called more2, more3, ..."""
    names = ("audio", "visual", *(f"more{v}" for v in range(2, len(shapes))))
    modalities = tuple(Modality(name, shape) for name, shape in zip(names, shapes, strict=False))
    return DataSpec(
        "av",
        "classification",
        modalities,
        tuple(f"c{k}" for k in range(classes)),
        "accuracy",
        aligned=False,
    )


def narrow(spec: DataSpec | None = None, **options: int | str) -> AudioVisual:
    """The network with 4 channels in the first layer, so vectors of 32."""
    return AudioVisual(spec or heard_and_seen(SMALL), {"width": 4, **options})


def on_narrow(
    cls: type[Method],
    variant: str = "paper",
    hparams: dict[str, Value] | None = None,
    **options: int | str,
) -> Method:
    """A method on the narrow network, in evaluation mode."""
    with Streams(0).initialising("test"):
        return cls(narrow(**options), variant, hparams).eval()


def av_case(
    cls: type[Method],
    variant: str = "paper",
    hparams: dict[str, Value] | None = None,
    shapes: Shapes = TINY,
    **options: int | str,
) -> Case:
    """What the conformance checks look at, of an audio-visual method."""
    return Case(
        cls, variant, heard_and_seen(shapes, 5), lambda spec: narrow(spec, **options), hparams
    )


def inputs(spec: DataSpec, samples: int = 4) -> dict[str, Tensor]:
    """Random inputs."""
    return dict(synthetic_split(spec, samples).inputs)


def size(*modules: Method | object) -> int:
    """Numbers of parameters, added up."""
    return sum(p.numel() for module in modules for p in module.parameters())  # type: ignore[attr-defined]

"""Rows of the fusion methods' test matrix that read the same for every method.

They are functions of a model or a class.

Shape legend: B samples, V modalities, K classes.

Called by tests of methods.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from harness.backbones.small import Small
from harness.dataset import DataSpec, Modality
from harness.method import EpochContext, Losses, Method, TrainBatch
from harness.protocol.combinations import lattice
from harness.protocol.masks import draw_present
from harness.protocol.seeds import Noise, Streams

# Two threads on tiny batches are slower than one on a busy machine.
torch.set_num_threads(1)

LATE = 50
Inputs = dict[str, Tensor]


def make_spec(
    modalities: int = 3, classes: int = 5, task: str = "classification", aligned: bool = True
) -> DataSpec:
    """V modalities of one shape."""
    shape = (3, 32, 32) if task == "segmentation" else (2, 6, 6)
    names = tuple(Modality(f"m{v}", shape) for v in range(modalities))
    labels = tuple(f"c{k}" for k in range(classes))
    return DataSpec("synthetic", task, names, labels, "accuracy", aligned, synthetic=True)


def make_model(
    cls: type[Method],
    spec: DataSpec | None = None,
    variant: str = "paper",
    width: int = 8,
    seed: int = 0,
    **hparams: Any,
) -> Method:
    """A model in evaluation mode.

    Its batch norms' running statistics are moved away from their initial values.
    """
    spec = spec or make_spec()
    with Streams(seed).initialising("model"):
        model = cls(Small(spec, {"width": width}), variant, hparams)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.3)
            if name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5)
    return model.eval()


def make_inputs(model: Method, batch: int = 8, seed: int = 1) -> Inputs:
    """Standard normal inputs."""
    generator = Streams(seed).generator("inputs")
    return {
        m.name: torch.randn(batch, *m.shape, generator=generator) for m in model.spec.modalities
    }


def make_target(model: Method, batch: int = 8) -> Tensor:
    """Labels (B,), or label maps (B, H, W)."""
    shape = (
        (batch, *model.spec.modalities[0].shape[1:])
        if model.spec.task == "segmentation"
        else (batch,)
    )
    return torch.randint(len(model.spec.classes), shape, generator=Streams(2).generator("target"))


def all_masks(model: Method) -> Tensor:
    """(2^V - 1, V) bool in the lattice's order."""
    return torch.tensor([c.mask for c in lattice(model.spec.names)])


def mixed_masks(model: Method, batch: int = 8) -> Tensor:
    """(B, V) bool in which neighbours have different combinations."""
    masks = all_masks(model)
    return masks[torch.arange(batch) % len(masks)]


def make_batch(
    model: Method, inputs: Inputs, present: Tensor, target: Tensor | None = None
) -> TrainBatch:
    """What the training loop hands to ``loss`` under dense encoding."""
    features = model.prepare(model.encode_all(inputs))
    target = make_target(model, len(present)) if target is None else target
    noise = Noise(Streams(3).generator("noise"))
    return TrainBatch(
        inputs,
        target,
        torch.ones_like(present),
        present,
        torch.arange(len(present)),
        features,
        (LATE, 100),
        noise,
    )


def losses(model: Method, batch: TrainBatch) -> Losses:
    """The terms of one step."""
    return model.loss(model.combine(batch.features, batch.present, batch.noise), batch)


def begin(model: Method, epoch: int = LATE, epochs: int = 100) -> None:
    """The hook before an epoch."""
    model.begin_epoch(EpochContext(epoch, epochs, model.combinations))


@torch.no_grad()
def row_01_leak(model: Method) -> None:
    """Absent inputs cannot reach the logits, for any combination.

    Replaced by 1e4 * noise and by NaN: logits bit-equal and finite.
    """
    inputs = make_inputs(model)
    for mask in all_masks(model):
        present = mask.expand(8, -1)
        clean = model(inputs, present).logits
        for junk in (1e4 * torch.randn(()), torch.tensor(torch.nan)):
            dirty = {
                n: x if mask[v] else torch.zeros_like(x) + junk
                for v, (n, x) in enumerate(inputs.items())
            }
            found = model(dirty, present).logits
            assert found.isfinite().all() and torch.equal(found, clean)


def row_02_feature_gradients(model: Method) -> None:
    """The gradient to an absent modality's features is exactly 0, to a present one's it is not.

    Every combination.
    """
    for mask in all_masks(model):
        encoded = model.encode_all(make_inputs(model))
        leaves = [[f.detach().requires_grad_() for f in maps] for maps in encoded]
        logits = model.fuse(
            model.prepare([tuple(maps) for maps in leaves]), mask.expand(8, -1)
        ).logits
        logits.square().sum().backward()  # type: ignore[no-untyped-call]
        for v, maps in enumerate(leaves):
            sizes = [0.0 if f.grad is None else float(f.grad.abs().max()) for f in maps]
            assert all(s > 0 for s in sizes) if mask[v] else not any(sizes)


def row_03_absent_features_train_nothing(model: Method) -> None:
    """Absent places get a gradient of exactly 0 in a mixed training batch.

    They hold NaN; losses are finite.

    Batch statistics are taken over the whole batch, so nothing but zeros in absent places keeps
    their gradient at 0.
    """
    begin(model.train())
    batch = make_batch(model, make_inputs(model), mixed_masks(model))
    there = batch.present[:, :, None, None, None]
    leaves = [
        [torch.where(there[:, v], f.detach(), torch.nan).requires_grad_() for f in m]
        for v, m in enumerate(batch.features)
    ]
    batch.features, batch.available = [tuple(maps) for maps in leaves], batch.present
    terms = losses(model, batch)
    torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(term.isfinite() for term in terms.values())
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    for v, maps in enumerate(leaves):
        for f in maps:
            assert (
                f.grad is not None
                and not f.grad[~batch.present[:, v]].any()
                and f.grad[batch.present[:, v]].any()
            )


@torch.no_grad()
def row_05_change_under_permutation(model: Method) -> float:
    """How much logits change when features and mask are permuted together but modules are not."""
    encoded = model.encode_all(make_inputs(model))
    present = mixed_masks(model)
    order = torch.arange(len(model.spec.names)).roll(1)
    moved = model.fuse(model.prepare([encoded[v] for v in order]), present[:, order]).logits
    return float((moved - model.fuse(model.prepare(encoded), present).logits).abs().max())


def row_07_single_modality(model: Method) -> None:
    """Training on one modality alone: finite losses and gradients, for each modality."""
    begin(model.train())
    for v in range(len(model.spec.names)):
        present = (torch.arange(len(model.spec.names)) == v).expand(8, -1)
        terms = losses(model, make_batch(model, make_inputs(model), present))
        model.zero_grad(set_to_none=True)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        assert all(t.isfinite() for t in terms.values())
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@torch.no_grad()
def row_08_rows_alone(model: Method) -> None:
    """Row b of a batch of mixed combinations equals that sample alone."""
    inputs, present = make_inputs(model), mixed_masks(model)
    whole = model(inputs, present).logits
    for b in range(8):
        alone = model({n: x[b : b + 1] for n, x in inputs.items()}, present[b : b + 1]).logits
        assert torch.allclose(alone[0], whole[b], atol=1e-5)


@torch.no_grad()
def row_09_split_equals_forward(model: Method) -> None:
    """Fusing cached features equals the plain forward pass, for every combination."""
    inputs = make_inputs(model)
    cache = model.prepare(model.encode_all(inputs))
    for mask in all_masks(model):
        present = mask.expand(8, -1)
        assert torch.equal(model.combine(cache, present).logits, model(inputs, present).logits)


def row_12_sizes(cls: type[Method], variant: str, aligned: bool) -> None:
    """V = 2, 3, 4 with 2, 6 and 40 classes: logits (B, K) and finite losses."""
    for modalities in (2, 3, 4):
        for classes in (2, 6, 40):
            model = make_model(
                cls, make_spec(modalities, classes, aligned=aligned), variant
            ).train()
            batch = make_batch(model, make_inputs(model), mixed_masks(model))
            assert model.combine(batch.features, batch.present).logits.shape == (8, classes)
            assert all(term.isfinite() for term in losses(model, batch).values())


def row_13_all_absent(model: Method) -> str:
    """The message of the error that a row without any modality raises."""
    present = mixed_masks(model)
    present[3] = False
    try:
        model(make_inputs(model), present)
    except ValueError as error:
        return str(error)
    return "nothing was raised"


def row_15_accuracies(
    cls: type[Method], variant: str = "paper", steps: int = 160, **hparams: Any
) -> dict[str, tuple[float, float]]:
    """Combination -> (accuracy after training, 2^-absent), both in %.

    Modality v alone carries bit v of the class.

    32 samples without noise; a combination decides the bits that it shows, and no function of it
    can do better on the others.
    """
    spec = make_spec(3, 8)
    model = make_model(cls, spec, variant, **hparams).train()
    target = torch.arange(32) % 8
    patterns = torch.randn(3, 2, 2, 6, 6, generator=Streams(4).generator("patterns"))
    inputs = {name: patterns[v][(target >> v) & 1] for v, name in enumerate(spec.names)}
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    begin(model)
    masks = Streams(5).generator("masks")
    for _ in range(steps):
        present = draw_present(torch.ones(32, 3, dtype=torch.bool), masks)
        loss = torch.stack(
            list(losses(model, make_batch(model, inputs, present, target)).values())
        ).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    model.eval()
    found = {}
    for combination, mask in zip(model.combinations, all_masks(model), strict=True):
        right = model(inputs, mask.expand(32, -1)).logits.argmax(1) == target
        found[combination.name] = (
            100.0 * float(right.float().mean()),
            100.0 * 2.0 ** (combination.size - 3),
        )
    return found


@torch.no_grad()
def row_16_half_precision(model: Method, dtype: torch.dtype) -> None:
    """Fusion under autocast is finite and near float32's, for every combination.

    Of features 100 times their size.
    """
    features = model.prepare(
        [tuple(100 * f for f in maps) for maps in model.encode_all(make_inputs(model))]
    )
    for mask in all_masks(model):
        exact = model.fuse(features, mask.expand(8, -1)).logits
        with torch.autocast("cpu", dtype=dtype):
            half = model.fuse(features, mask.expand(8, -1)).logits.float()
        assert half.isfinite().all()
        assert F.cosine_similarity(half.flatten(), exact.flatten(), 0) > 0.99

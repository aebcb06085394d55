"""What training a method must be like; see method_checks.py."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace

import torch
from torch import Tensor

from harness.conformance.synthetic import (
    EPOCHS,
    LATE,
    RATE,
    Case,
    backward,
    check,
    close,
    finite_gradients,
    gap,
    require,
    same,
    synthetic_split,
)
from harness.method import Losses, Method, TrainBatch
from harness.protocol.metrics import METRICS, Metric
from harness.protocol.seeds import Streams
from harness.training.loop import EpochReport, Trainer
from harness.training.precision import (
    UndefinedGradient,
    forward_in,
    in_float32,
    refuse_undefined_gradients,
    widened,
)
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig

CLIP = 20.0
FIRST_STEPS = 20
BF16_TOLERANCE = 0.05
"""Of the largest loss of these steps; the classifying methods of this project are within 0.006."""

SIGN_RATE = RATE / 10
"""The learning rate of these steps in a regression: the gradient of an absolute error is a sign, so
that rounding turns some, and larger steps would tell how fast that grows instead.
"""

INTERRUPTED = 3
"""Epoch of 100 before which the ``state`` check stops and resumes: in the middle of every paper's
mining.
"""


@check
def single_modality(case: Case) -> None:
    """each modality alone can be trained on and predicted from"""
    for v, name in enumerate(case.spec.names):
        model = case.fresh()
        case.begin(model, LATE)
        terms = case.losses(model, case.only(v))[0]
        backward(model, terms)
        require(
            all(bool(t.isfinite()) for t in terms.values()),
            f"with '{name}' alone a loss term is not finite",
        )
        require(not finite_gradients(model), f"with '{name}' alone a gradient is not finite")
        require(
            bool(case.logits(model.eval(), case.only(v)).isfinite().all()),
            f"with '{name}' alone logits are not finite",
        )


@check
def gradients(case: Case) -> None:
    """present modalities train their encoders, and a modality that no sample of the batch has gives
    its encoder no gradient
    """
    model = case.fresh()
    case.lead(model)
    alone = [case.only(v) for v in range(len(case.spec.names))]
    all_but_one = [~present for present in alone]
    for present in (*alone, *all_but_one):
        case.begin(model, LATE)
        terms, _, _ = case.losses(model, present, available=present)
        backward(model, terms)
        for v, name in enumerate(case.spec.names):
            encoder, shown = model.encoders[v], bool(present[0, v])
            if next(encoder.parameters(), None) is None:
                continue
            size = _gradient(encoder)
            if shown:
                require(
                    size > 0,
                    f"the encoder of '{name}' gets no gradient from a batch that shows '{name}'",
                )
            else:
                require(
                    size == 0,
                    f"the encoder of '{name}' gets a gradient of {size:.3g} from a batch without"
                    f" '{name}'",
                )


@check
def parameters(case: Case) -> None:
    """every parameter gets a finite gradient in some phase of training"""
    idle: set[str] | None = None
    for seed in range(3):  # a unit that is dead by its initialisation gets other chances
        model = case.fresh(seed)
        unseen = {name for name, _ in model.named_parameters()}
        for _ in case.walk(model):
            broken = finite_gradients(model)
            require(not broken, f"the gradient of {broken[:1]} is not finite")
            unseen -= {
                name
                for name, p in model.named_parameters()
                if p.grad is not None and bool(p.grad.any())
            }
        idle = unseen if idle is None else idle & unseen
        if not idle:
            return
    require(
        not idle,
        f"{', '.join(sorted(idle or ()))} never gets a gradient in the phases of {EPOCHS} epochs",
    )


@check
def state(case: Case) -> None:
    """all state that training leaves, mined sets included, is in the state dict: saved, loaded and
    resumed, nothing changes
    """
    through, halted = case.fresh(), case.fresh()
    last = case.lead(through)
    case.lead(halted, 0, INTERRUPTED)
    resumed, loaded = _reloaded(case, halted), _reloaded(case, through)
    require(
        same(last, case.lead(resumed, INTERRUPTED)),
        f"a run resumed at epoch {INTERRUPTED} of {EPOCHS} ends with other losses",
    )
    logits = case.logits(through.eval(), case.mixed)
    terms = _late_losses(case, through)
    for name, model in (("resumed", resumed), ("loaded", loaded)):
        found = case.logits(model.eval(), case.mixed)
        require(
            torch.equal(logits, found),
            f"the {name} model's logits differ by up to {gap(logits, found)}",
        )
        require(
            same(terms, _late_losses(case, model)), f"the {name} model has another training loss"
        )
        require(
            through.remarks(EPOCHS) == model.remarks(EPOCHS), f"the {name} model has other remarks"
        )


@check
def present_policy(case: Case) -> None:
    """when only shown samples are encoded (train.encode=present), no other input reaches an
    encoder, and predictions stay
    """
    for present in (case.mixed, case.only(0), case.only(len(case.spec.names) - 1)):
        unshown: Iterable[tuple[str, Mapping[str, Tensor]]] = case.disturbed(present)
        if case.method.needs_complete_data:
            # It may show the full inputs to another model than its encoders.
            unshown = [("their values", case.split.inputs)]
        for what, inputs in unshown:
            model = case.fresh()
            case.begin(model, LATE)
            terms = case.losses(model, present, inputs=inputs, rows=present)[0]
            backward(model, terms)
            finite = all(bool(t.isfinite()) for t in terms.values())
            require(
                finite and not finite_gradients(model),
                "losses or gradients are not finite when the inputs that are not shown hold"
                f" {what}",
            )
        dense = case.logits(case.trained, present)
        with torch.no_grad():
            features = case.trained.prepare(case.trained.encode_all(case.split.inputs, present))
            sparse = case.trained.combine(features, present).logits
        require(
            close(dense, sparse),
            f"evaluation logits differ by {gap(dense, sparse)} from those of dense encoding",
        )


@check
def bfloat16(case: Case) -> None:
    """with forward passes in bfloat16 the losses of the first 20 steps are those of float32 to 5 %
    of the largest, or `float32_only` says why they are not
    """
    if case.method.float32_only:
        return
    try:
        rounded = _first_losses(case, "bf16")
    except UndefinedGradient:  # of the network, on this device
        return
    exact = _first_losses(case, "float32")
    gaps = (exact - rounded).abs() / exact.abs().max()
    # Not `>`: a loss that is NaN is far too.
    far = [step for step, one in enumerate(gaps.tolist()) if not one <= BF16_TOLERANCE]
    require(
        not far,
        f"in step {far[:1]} the loss in bfloat16 is {rounded[far[:1]].tolist()} and in float32"
        f" {exact[far[:1]].tolist()}",
    )


def _first_losses(case: Case, precision: str) -> torch.Tensor:
    """The losses of the first steps of SGD, (FIRST_STEPS,), with every phase on."""
    model, device = case.fresh(), torch.device("cpu")
    refuse_undefined_gradients(model, precision, device)
    case.begin(model, LATE)
    rate = SIGN_RATE if case.spec.task == "regression" else RATE
    optimiser = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
    everything, losses = torch.ones_like(case.mixed), []
    for step in range(FIRST_STEPS):
        noise = case.noise(step)
        with forward_in(precision, device):
            features = model.prepare(model.encode_all(case.split.inputs))
            output = in_float32(model.combine(features, case.mixed, noise))
        batch = TrainBatch(
            inputs=case.split.inputs,
            target=case.split.target,
            available=everything,
            present=case.mixed,
            index=torch.arange(case.size),
            features=widened(features),
            phase=(LATE, EPOCHS),
            noise=noise,
        )
        terms = model.loss(output, batch)
        backward(model, terms)
        model.scale_gradients(batch, output)
        optimiser.step()
        losses.append(torch.stack(list(terms.values())).sum().detach())
    return torch.stack(losses)


@check
def overfit(case: Case) -> None:
    """the training loop fits 32 samples whose label shows in every modality; a number is right
    within half a standard deviation
    """
    model, right = case.fresh(), [0.0]

    def stop_early(progress: EpochReport) -> None:
        right.append(progress.history[-1]["values"][f"val/right/{model.combinations[-1].key}"])
        if right[-1] >= 90.0 and progress.epoch >= progress.epochs // 3:
            raise _Fitted

    with suppress(_Fitted):
        _trainer(case, model, stop_early).fit()
    require(
        right[-1] >= 90.0,
        f"after 150 steps {right[-1]:.0f} % of them are right with all modalities, not 90 %",
    )


class _Fitted(Exception):
    pass


def _trainer(case: Case, model: Method, on_epoch: Callable[[EpochReport], None]) -> Trainer:
    samples, dense = synthetic_split(case.spec, 32, seed=1), case.spec.task == "segmentation"
    # The segmentation trainers of the literature clip at this norm; the losses of several scales
    # add up.
    clip = CLIP if dense else None
    return Trainer(
        model=model,
        # Each five times: 15 epochs of 10 steps.
        train=samples.select(torch.arange(160) % 32),
        val=samples,
        metric=_right(case),
        recipe=TrainConfig(epochs=15, batch_size=16, lr=0.05, schedule="cosine", clip_norm=clip),
        missing=MissingConfig(),
        evaluation=EvaluationConfig(batch_size=32),
        streams=Streams(0),
        device=torch.device("cpu"),
        checkpoints=_NoCheckpoints(),
        on_epoch=on_epoch,
    )


def _right(case: Case) -> Metric:
    """The share of samples, or of pixels, that are right, in percent."""
    if case.spec.label_scale is None:
        dense = case.spec.task == "segmentation"
        return replace(METRICS["pixel_accuracy" if dense else "accuracy"], name="right")
    _, deviation = case.spec.label_scale
    near = 0.5 * deviation

    def compute(predicted: Tensor, target: Tensor) -> float:
        return 100.0 * float(((predicted[:, 0] - target).abs() <= near).double().mean())

    return replace(METRICS["accuracy_positive"], name="right", compute=compute, influence=None)


class _NoCheckpoints:
    def save(self, state: dict[str, object]) -> None: ...

    def load(self) -> None: ...


def _gradient(module: torch.nn.Module) -> float:
    return max(
        (float(p.grad.abs().max()) for p in module.parameters() if p.grad is not None), default=0.0
    )


def _late_losses(case: Case, model: Method) -> Losses:
    case.begin(model, LATE)
    return case.losses(model, case.mixed)[0]


def _reloaded(case: Case, model: Method) -> Method:
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    fresh = case.fresh(seed=1)
    fresh.load_state_dict(torch.load(stream, weights_only=True))
    return fresh

"""What a method's class, outputs and predictions must be like; the checks run in the order of these
files.

A check is one function of a :class:`~harness.conformance.synthetic.Case`: it calls ``require`` (or
raises), and its docstring is the contract's sentence that the user is shown. A new check is one new
function under ``@check``, here or in training_checks.py.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness.conformance.synthetic import LATE, Case, check, close, gap, require, same
from harness.dataset import TASKS
from harness.protocol.seeds import Streams


@check
def declarations(case: Case) -> None:
    """a method declares citation, provenance, deviations, variants with `paper`, tasks, and
    defaults inside their ranges
    """
    cls = case.method
    for name in ("citation", "provenance"):
        text = getattr(cls, name, None)
        require(
            isinstance(text, str) and bool(text.strip()), f"{name} is {text!r} and must be a text"
        )
    deviations = cls.deviations
    require(
        isinstance(deviations, tuple) and all(isinstance(d, str) for d in deviations),
        "deviations is not a tuple of str",
    )
    require("paper" in cls.variants, f"variants {list(cls.variants)} lack 'paper'")
    require(
        bool(cls.tasks) and set(cls.tasks) <= set(TASKS), f"tasks {cls.tasks} are not among {TASKS}"
    )
    require(
        case.spec.task in cls.tasks,
        f"tasks {cls.tasks} lack {case.spec.task}, for which it is checked",
    )
    for key, declared in cls.hyperparameters.items():
        declared.check(key, declared.default)
    cls.check(case.spec, case.variant, case.hparams)


@check
def shapes(case: Case) -> None:
    """logits are (B, K), (B, 1) for a regression, z and auxiliary predictions have B rows, and
    losses are finite 0-d terms
    """
    model = case.fresh()
    case.begin(model, 0)
    terms, output, _ = case.losses(model, case.mixed, 0)
    wanted = (case.size, *case.logits_shape)
    require(
        tuple(output.logits.shape) == wanted,
        f"logits have the shape {tuple(output.logits.shape)} instead of {wanted}",
    )
    require(
        output.z.shape[0] == case.size, f"z has {output.z.shape[0]} rows instead of {case.size}"
    )
    for name, (logits, weight) in output.aux.items():
        rows = (logits.shape[0], *weight.shape)
        require(
            rows == (case.size, case.size),
            f"aux['{name}'] has logits and weights of {rows} rows instead of {case.size}",
        )
    require(bool(terms), "loss returned no term")
    for name, term in terms.items():
        require(
            term.dim() == 0 and bool(term.isfinite()),
            f"the term '{name}' is {term.tolist()}, not a finite 0-d tensor",
        )


@check
def determinism(case: Case) -> None:
    """without noise the output is deterministic, and all randomness of training comes from the
    given noise
    """
    first, second = (case.logits(case.trained, case.mixed) for _ in range(2))
    require(torch.equal(first, second), "two evaluations of the same batch differ")
    runs = []
    for _ in range(2):
        model = case.fresh()
        case.begin(model, LATE)
        state = torch.get_rng_state()
        runs.append(case.losses(model, case.mixed)[0])
        require(
            torch.equal(state, torch.get_rng_state()),
            "a training forward pass draws from torch's global generator",
        )
    require(same(*runs), "two training passes with the same noise stream have different losses")


@check
def parameter_counts(case: Case) -> None:
    """`training_only` names modules whose weights the prediction does not need, so that inference
    has at most as many
    """
    model = case.fresh().eval()
    counts = model.parameter_counts()
    require(0 < counts["inference"] <= counts["training"], f"parameter counts are {counts}")
    before = case.logits(model, case.mixed)
    for prefix in model.training_only:
        named = [p for name, p in model.named_parameters() if name.startswith(prefix)]
        modules = [name for name, _ in model.named_modules() if name.startswith(prefix.rstrip("."))]
        # A trunk may be without parameters on some network: a module of that name is enough.
        require(
            bool(named or modules),
            f"training_only names '{prefix}', which is neither a module nor a parameter",
        )
        # NaN would reach whatever is computed with them.
        for parameter in named:
            torch.nn.init.constant_(parameter, torch.nan)
    require(
        torch.equal(before, case.logits(model, case.mixed)),
        "logits depend on the weights of training_only modules",
    )


@check
def leak(case: Case) -> None:
    """features of absent modalities may be anything, NaN included, and are replaced by `where`,
    never by multiplication
    """
    for present in (case.mixed, *map(case.constant, case.masks)):
        clean = case.logits(case.trained, present)
        for what, inputs in case.disturbed(present):
            logits = case.logits(case.trained, present, inputs)
            require(
                bool(logits.isfinite().all()),
                f"logits are not finite when absent modalities hold {what}",
            )
            require(torch.equal(clean, logits), f"logits change when absent modalities hold {what}")


@check
@torch.no_grad()
def cache(case: Case) -> None:
    """encode and prepare never see a mask: combinations fused from one cache equal the plain
    forward pass bit for bit
    """
    model = case.trained
    cached = model.prepare(model.encode_all(case.split.inputs))
    for present in (*map(case.constant, case.masks), case.mixed):
        fused, plain = model.combine(cached, present).logits, case.logits(model, present)
        require(
            torch.equal(fused, plain),
            f"cached and plain logits differ by up to {float((fused - plain).abs().max()):.3g}",
        )


@check
@torch.no_grad()
def batch_invariance(case: Case) -> None:
    """in evaluation a sample's prediction does not depend on the other samples of its batch or on
    their order
    """
    model, whole = case.trained, case.logits(case.trained, case.mixed)
    order = torch.randperm(case.size, generator=Streams(0).generator("order"))
    shuffled = case.logits(model, case.mixed[order], case.split.batch(order)[0])
    require(
        close(shuffled, whole[order]),
        "permuting the batch does more than permute the rows of the logits",
    )
    for b in range(case.size):
        row = torch.tensor([b])
        alone = case.logits(model, case.mixed[row], case.split.batch(row)[0])
        require(
            close(alone, whole[row]),
            f"row {b} of a batch differs from the sample alone by {gap(alone, whole[row])}",
        )


@check
def absent_row(case: Case) -> None:
    """a row of `present` without any modality raises ValueError"""
    present = case.mixed.clone()
    present[1] = False
    features = case.trained.prepare(case.trained.encode_all(case.split.inputs))
    ways: list[Callable[[], object]] = [
        lambda: case.trained.combine(features, present),
        lambda: case.trained(case.split.inputs, present),
    ]
    for predict in ways:
        try:
            predict()
        except ValueError:
            continue
        require(False, "a sample without any modality was predicted")

"""The one training loop. It is given train and val, never a handle on test."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.dataset import Draws, Split
from harness.errors import TrialFailure
from harness.method import EpochContext, Method, TrainBatch
from harness.protocol.cells import Cell, mean_value, score_cells
from harness.protocol.combinations import Combination, parse
from harness.protocol.masks import draw_present
from harness.protocol.metrics import Metric
from harness.protocol.optimiser import SGD
from harness.protocol.schedules import epoch_at, learning_rate_factor, momentum_in
from harness.protocol.seeds import Noise, Streams
from harness.training.cuda_graph import LEAST_STEPS, Recorder, ReplayedSteps
from harness.training.evaluation import predict
from harness.training.heartbeat import beat
from harness.training.missing import incomplete, usable
from harness.training.precision import (
    computing_in,
    forward_in,
    in_float32,
    refuse_undefined_gradients,
    widened,
)
from harness.training.recipe import EvaluationConfig, MissingConfig, TrainConfig, evaluated_in

NOT_REPLAYED = "trained by plain steps: a recorded one could not be replayed"


class Checkpoints(Protocol):
    """Where the loop keeps its state.

    ``load`` returns None when there is nothing to resume from.
    """

    def save(self, state: dict[str, Any]) -> None: ...

    def load(self) -> dict[str, Any] | None: ...


@dataclass
class EpochReport:
    """What one finished epoch reports; ``value`` is what the checkpoint is selected on."""

    epoch: int
    epochs: int
    metric: str
    value: float
    history: list[dict[str, Any]]


@dataclass
class Fit:
    """The state of a training run; what a checkpoint holds, and what is left when it is over.

    ``remarks`` are sentences for the report about the data that it was trained on.
    """

    epoch: int = -1
    best_epoch: int = -1
    best_value: float = math.nan
    value: float = math.nan
    best_state: dict[str, Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    remarks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Epoch:
    """What the steps of one epoch share, on the device that computes them.

    ``totals`` are the sums of the epoch's losses so far, by the names that they are logged under.
    """

    phase: tuple[int, int]
    available: Tensor
    present: Tensor
    draws: Draws | None
    noise: Noise
    totals: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Trainer:
    """One model, its data and its recipe.

    ``record`` makes steps replayed ones, where they can be (cuda_graph.py); None: all are plain.
    """

    model: Method
    train: Split
    val: Split
    metric: Metric
    recipe: TrainConfig
    missing: MissingConfig
    evaluation: EvaluationConfig
    streams: Streams
    device: torch.device
    checkpoints: Checkpoints
    on_epoch: Callable[[EpochReport], None]
    record: Recorder | None = None

    def __post_init__(self) -> None:
        self.optimiser = SGD(
            self.model.parameters(),
            lr=self.recipe.lr,
            momentum=self.recipe.momentum,
            nesterov=self.recipe.nesterov and self.recipe.momentum > 0,
            weight_decay=self.recipe.weight_decay,
            # On a CPU the bits of a loop over parameters in less time; fused rounds differently.
            foreach=self.device.type == "cpu",
            fused=self.device.type == "cuda",
        )
        self.only = (
            parse(self.recipe.combination, self.model.spec.names)
            if self.recipe.combination
            else None
        )
        refuse_undefined_gradients(self.model, self.recipe.precision, self.device)
        self._require_val()
        self.train, lacking = incomplete(self.train, self.missing, self.model.spec.names)
        self.train, left_out = usable(self.train, self._needed())
        self.remarks = lacking + left_out
        self.available = self.train.available
        self.complete = bool(self.available.all())

    def _needed(self) -> Combination | None:
        """What a training sample must have to be of use; None where any modality will do."""
        return self.model.combinations[-1] if self.model.needs_complete_data else self.only

    def _require_val(self) -> None:
        """TrialFailure where no sample of val has the one combination that selects weights."""
        if self.only is None:
            return
        if not bool(self.val.available[:, torch.tensor(self.only.mask)].all(1).any()):
            raise TrialFailure(
                f"no sample of val has {self.only.name}, by which the weights of this training are"
                " selected"
            )

    def fit(self) -> Fit:
        """Train to the last epoch, from the checkpoint if there is one.

        TrialFailure when the loss or a score is not finite.
        """
        fit = self._resume()
        fit.remarks = self.remarks
        for epoch in range(fit.epoch + 1, self.recipe.epochs):
            started = time.perf_counter()
            with computing_in(self.recipe.precision):
                values = self._train_epoch(epoch)
            values |= self._validate(epoch, fit)
            fit.epoch = epoch
            fit.seconds += time.perf_counter() - started
            fit.history.append({"step": epoch, "time": round(time.time(), 3), "values": values})
            self.checkpoints.save(self._state(fit))
            self._report(fit)
        return fit

    def rehearse(self, steps: int) -> float:
        """Seconds of a training step, over ``steps`` of them behind as many that warm up, and one
        batch of val evaluated, so that memory was used as in a trial.

        The model has been trained then, by no recipe: nothing else is to be done with it.
        """
        samples = torch.arange(steps * self.recipe.batch_size) % len(self.train)
        self.train = self.train.select(samples)
        self.available = self.train.available
        size, precision = self.evaluation.batch_size, evaluated_in(self.evaluation, self.recipe)
        some = self.val.select(torch.arange(min(size, len(self.val))))
        with computing_in(self.recipe.precision):
            self._train_epoch(0)
            predict(self.model, some, size, self.device, precision)
            started = time.perf_counter()
            # It ends by reading the sums of losses, for which a device is waited.
            self._train_epoch(0)
            return (time.perf_counter() - started) / steps

    # ------------------------------------------------------------------ one epoch

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        recipe = self.recipe
        rate = recipe.lr * learning_rate_factor(recipe.schedule, epoch, recipe.epochs)
        momentum = momentum_in(recipe.schedule, epoch, recipe.epochs, recipe.momentum)
        for group in self.optimiser.param_groups:
            group |= {"lr": rate, "momentum": momentum}
        self.model.train()
        self.model.begin_epoch(EpochContext(epoch, recipe.epochs, self.model.combinations))
        present = self._draw_masks(epoch)
        shared = self._shared(epoch, present)
        batches = self._batches(epoch)
        # Once an epoch: a copy to the device in each step would wait for it.
        stored = self.train.target.device
        positions = torch.split(torch.cat(batches).to(stored), recipe.batch_size)
        replayed = self._replayed(shared, len(batches))
        for index, where in zip(batches, positions, strict=True):
            beat()
            if replayed is not None:
                replayed(where)
            else:
                self._step(where, shared, self._rows_to_encode(present, index))
        if replayed is not None and replayed.refused:
            self.record = None
            self.remarks.append(f"{NOT_REPLAYED} ({replayed.refused})")
        return {"train/lr": rate} | _means(shared.totals, len(batches), epoch)

    def _shared(self, epoch: int, present: Tensor) -> _Epoch:
        draws = self.train.draw(self.streams.generator("augment", epoch))
        noise = Noise(self.streams.generator("noise", epoch, device=self.device))
        return _Epoch(
            phase=(epoch, self.recipe.epochs),
            available=self.available.to(self.device),
            present=present.to(self.device),
            draws=None if draws is None else draws.to(self.train.target.device),
            noise=noise,
        )

    def _replayed(self, shared: _Epoch, steps: int) -> ReplayedSteps | None:
        """What takes the epoch's steps by replay; None where they are plain ones.

        Those that read from a disk, or encode a number of samples that depends on the masks, can
        only be plain; a few are not worth a recording.
        """
        resident = self.train.device.type == self.train.target.device.type
        everything = self.complete and self.recipe.encode == "dense"
        if self.record is None or steps < LEAST_STEPS or not (resident and everything):
            return None

        def step(where: Tensor) -> None:
            self._step(where, shared, None)

        def changed() -> list[Tensor]:
            tensors = [*self.model.parameters(), *self.model.buffers(), *shared.totals.values()]
            for kept in self.optimiser.state.values():
                tensors += [one for one in kept.values() if isinstance(one, Tensor)]
            return tensors

        return ReplayedSteps(step, changed, shared.noise.generator, self.record)

    def _draw_masks(self, epoch: int) -> Tensor:
        if self.only is not None:
            return torch.tensor(self.only.mask).expand(len(self.train), -1)
        return draw_present(self.available, self.streams.generator("mask", epoch))

    def _batches(self, epoch: int) -> list[Tensor]:
        order = torch.randperm(len(self.train), generator=self.streams.generator("order", epoch))
        batches = list(torch.split(order, self.recipe.batch_size))
        last = len(batches[-1])
        # A batch of one sample has no batch statistics: it is left out in any case.
        unwanted = self.recipe.drop_last or last < 2
        if len(batches) > 1 and last < self.recipe.batch_size and unwanted:
            batches.pop()
        return batches

    def _rows_to_encode(self, present: Tensor, index: Tensor) -> Tensor | None:
        if self.recipe.encode == "present":
            return present[index]
        return None if self.complete else self.available[index]

    def _step(self, where: Tensor, shared: _Epoch, rows: Tensor | None) -> None:
        """Train on the samples at ``where`` (B,) int64, which lies where the split's arrays do;
        ``rows`` (B, V) are those of them to encode.
        """
        inputs, target = self.train.batch(where, shared.draws)
        where = where.to(self.device)
        with forward_in(self.recipe.precision, self.device):
            features = self.model.prepare(self.model.encode_all(inputs, rows))
        batch = TrainBatch(
            inputs=inputs,
            target=target,
            available=shared.available[where],
            present=shared.present[where],
            index=where,
            features=features,
            phase=shared.phase,
            noise=shared.noise,
        )
        self._update(batch, shared.totals)

    def _update(self, batch: TrainBatch, totals: dict[str, Tensor]) -> None:
        """One step of the optimiser, and its losses added to the epoch's."""
        with forward_in(self.recipe.precision, self.device):
            output = self.model.combine(batch.features, batch.present, batch.noise)
        if self.recipe.precision == "bf16":
            output, batch = in_float32(output), replace(batch, features=widened(batch.features))
        terms = self.model.loss(output, batch)
        loss = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.model.scale_gradients(batch, output)
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip_norm)
        self.optimiser.step()
        # Sums stay on the device: reading them every step would wait for it.
        _add(totals, {"train/loss": loss, **{f"train/{n}": term for n, term in terms.items()}})

    # ------------------------------------------------------------------ selection and state

    def _validate(self, epoch: int, fit: Fit) -> dict[str, float]:
        precision = evaluated_in(self.evaluation, self.recipe)
        scores = predict(
            self.model, self.val, self.evaluation.batch_size, self.device, precision, self.remarks
        )
        if not bool(scores.isfinite().all()):
            raise TrialFailure(f"validation scores are not finite after epoch {epoch}")
        cells = score_cells(self.metric, scores, self.val, self.model.combinations)
        context = EpochContext(
            epoch=epoch,
            epochs=self.recipe.epochs,
            combinations=self.model.combinations,
            val_scores=scores,
            val_target=self.val.target.cpu() if scores.dim() == 3 else None,
            val_values={name: cell.value for name, cell in cells.items()},
            val_available=self.val.available.cpu(),
        )
        self.model.end_epoch(context)
        fit.value = mean_value(cells) if self.only is None else cells[self.only.name].value
        if epoch >= self._first_selectable() and self._improves(fit.value, fit.best_value):
            fit.best_epoch, fit.best_value = epoch, fit.value
            # With what ``end_epoch`` just wrote: a set that was mined belongs to these weights.
            fit.best_state = {
                name: tensor.detach().cpu().clone()
                for name, tensor in self.model.state_dict().items()
            }
        return self._logged(cells)

    def _logged(self, cells: dict[str, Cell]) -> dict[str, float]:
        there = [c for c in self.model.combinations if cells[c.name].n]
        per_cell = {f"val/{self.metric.name}/{c.key}": cells[c.name].value for c in there}
        extra = {f"method/{name}": number for name, number in self.model.diagnostics().items()}
        return {f"val/{self.metric.name}_mean": mean_value(cells), **per_cell, **extra}

    def _first_selectable(self) -> int:
        return min(
            epoch_at(self.recipe.first_selectable, self.recipe.epochs), self.recipe.epochs - 1
        )

    def _improves(self, value: float, best: float) -> bool:
        # Strict, so that ties go to the earlier epoch.
        return math.isnan(best) or (value > best if self.metric.higher_is_better else value < best)

    def _report(self, fit: Fit) -> None:
        self.on_epoch(
            EpochReport(fit.epoch, self.recipe.epochs, self.metric.name, fit.value, fit.history)
        )

    def _state(self, fit: Fit) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        return state | {"starved": self.model.starved_encoders, "fit": dict(vars(fit))}

    def _resume(self) -> Fit:
        state = self.checkpoints.load()
        if state is None:
            return Fit()
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.model.starved_encoders = state["starved"]
        fit = Fit(**state["fit"])
        self._report(fit)
        return fit


def _add(totals: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
    """Add to sums where they are, so that a replayed step adds to the same ones."""
    for name, term in terms.items():
        if name in totals:
            totals[name] += term.detach()
        else:
            totals[name] = term.detach().clone()


def _means(totals: dict[str, Tensor], batches: int, epoch: int) -> dict[str, float]:
    # Read at once: a device is waited for at each reading.
    sums = torch.stack(list(totals.values())).tolist()
    means = {name: total / batches for name, total in zip(totals, sums, strict=True)}
    broken = [name for name, value in means.items() if not math.isfinite(value)]
    if broken:
        raise TrialFailure(
            f"{broken[0]} became {means[broken[0]]} in epoch {epoch}; a smaller train.lr or smaller"
            " loss weights may help"
        )
    return means

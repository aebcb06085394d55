"""A missingness of one rate per modality, and of modalities that are missing at once."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import run
from harness.analysis.results import read
from harness.cli import guarded
from harness.dataset import Split
from harness.errors import UserError
from harness.protocol.combinations import lattice
from harness.protocol.masks import draw_left, drop_modalities
from harness.protocol.presence import independent
from harness.protocol.seeds import Streams
from harness.registry import DATASETS
from harness.store import Store
from harness.study.config import load_study
from harness.study.plan import Plan
from harness.training.missing import checked, missing_share, profile, recorded
from harness.training.recipe import MissingConfig

NAMES = ("rgb", "depth", "ir")
RATES = {"rgb": 0.01, "depth": 0.2, "ir": 0.05}
TOGETHER = [
    {"missing": "ir+depth", "probability": 0.1},
    {"missing": "rgb+depth+ir", "probability": 0.3},
]
MANY = 50_000


def missing(**settings: Any) -> MissingConfig:
    return MissingConfig(train="random", **settings)


def simulated(samples: int, seed: int = 0) -> np.ndarray:
    """What is left of samples that have everything, (samples, 3): each cause is drawn by itself,
    and a sample that has lost all is drawn again.
    """
    random, left = np.random.default_rng(seed), np.zeros((samples, 3), dtype=bool)
    again = np.arange(samples)
    while len(again):
        have = np.ones((len(again), 3), dtype=bool)
        for place, rate in enumerate(RATES.values()):
            have[random.random(len(again)) < rate, place] = False
        have[random.random(len(again)) < 0.1, 1:] = False
        have[random.random(len(again)) < 0.3] = False
        left[again] = have
        again = again[~have.any(1)]
    return left


def shares(left: np.ndarray) -> dict[str, float]:
    """The share of samples that are left with each combination."""
    counts = Counter(map(tuple, left.tolist()))
    return {c.name: counts[c.mask] / len(left) for c in lattice(NAMES)}


# ---------------------------------------------------------------------- the profile


def test_rates_alone_are_independent_sensors() -> None:
    found = profile(missing(rates=RATES), NAMES)
    expected = independent({"rgb": 0.99, "depth": 0.8, "ir": 0.95})
    assert found is not None
    assert found.probabilities == pytest.approx(expected.probabilities)
    assert found.nothing == pytest.approx(0.01 * 0.2 * 0.05)


def test_causes_by_hand() -> None:
    """Two sensors: one fails alone with 0.2, both at once with 0.1."""
    settings = missing(rates={"a": 0.2}, together=[{"missing": "a+b", "probability": 0.1}])
    found = profile(settings, ("a", "b"))
    assert found is not None
    assert found.probabilities == pytest.approx((0.0, 0.9 * 0.2, 0.9 * 0.8))
    assert found.nothing == pytest.approx(0.1)
    assert missing_share(settings, ("a", "b")) == pytest.approx(0.2 / 2)


def test_the_profile_and_what_is_drawn_are_what_a_simulation_of_the_causes_gives() -> None:
    settings = missing(rates=RATES, together=TOGETHER)
    found = profile(settings, NAMES)
    assert found is not None
    by_hand = shares(simulated(MANY))
    everything = torch.ones(MANY, 3, dtype=torch.bool)
    drawn = draw_left(everything, found, Streams(7).generator("missing"))
    for combination, p in zip(lattice(NAMES), found.probabilities, strict=True):
        exact = p / (1 - found.nothing)
        within = 4.5 * np.sqrt(exact * (1 - exact) / MANY)
        assert by_hand[combination.name] == pytest.approx(exact, abs=within)
        assert shares(drawn.numpy())[combination.name] == pytest.approx(exact, abs=within)
    assert missing_share(settings, NAMES) == pytest.approx(1 - simulated(MANY).mean(), abs=5e-3)
    assert float((~drawn).double().mean()) == pytest.approx(
        missing_share(settings, NAMES), abs=5e-3
    )


def test_the_share_of_one_rate_for_all_is_that_of_what_is_dropped() -> None:
    everything = torch.ones(MANY, 3, dtype=torch.bool)
    dropped = drop_modalities(everything, 0.6, Streams(0).generator("missing"))
    settings = missing(rate=0.6)
    assert float((~dropped).double().mean()) == pytest.approx(
        missing_share(settings, NAMES), abs=5e-3
    )
    assert missing_share(MissingConfig(), NAMES) == 0.0


# ---------------------------------------------------------------------- the draw


def test_samples_that_lack_something_are_left_with_some_of_what_they_have() -> None:
    """Conditional on what a sample has: of a lone modality everything stays."""
    found = profile(missing(rates={"rgb": 0.5, "depth": 0.5, "ir": 0.9}), NAMES)
    assert found is not None
    rows = torch.tensor([[True, True, True], [False, True, True], [False, False, True]])
    available = rows.repeat(50_000, 1)
    left = draw_left(available, found, torch.Generator().manual_seed(0))
    assert bool(left.any(1).all()) and not bool((left & ~available).any())
    assert torch.equal(left[2::3], available[2::3])
    # Of depth and ir, given that one of them is left: 0.5 of 1 - 0.5 * 0.9 have depth.
    assert float(left[1::3, 1].double().mean()) == pytest.approx(0.5 / 0.55, abs=5e-3)
    assert float(left[1::3, 2].double().mean()) == pytest.approx(0.1 / 0.55, abs=5e-3)


def test_a_pattern_is_fixed_and_none_is_left_with_nothing_however_rare() -> None:
    found = profile(missing(rates=dict.fromkeys(NAMES, 0.95)), NAMES)
    assert found is not None
    everything = torch.ones(20_000, 3, dtype=torch.bool)
    first, again, other = (
        draw_left(everything, found, Streams(seed).generator("missing")) for seed in (0, 0, 1)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert bool(first.any(1).all())


# ---------------------------------------------------------------------- settings and identity


def test_one_form_of_what_is_meant_whatever_the_order_and_zeros() -> None:
    first = checked(missing(rates=RATES, together=TOGETHER), NAMES)
    second = checked(
        missing(
            rates={"ir": 0.05, "depth": 0.2, "rgb": 0.01},
            together=[
                {"probability": 0.3, "missing": "depth.ir.rgb"},
                {"missing": "rgb+ir", "probability": 0},
                {"missing": "depth+ir", "probability": 0.1},
            ],
        ),
        NAMES,
    )
    assert recorded(first) == recorded(second)
    assert list(first.rates) == list(NAMES)


def test_ids_change_with_rates_and_stay_without() -> None:
    def ids(*settings: str) -> list[str]:
        return [trial.id for trial in Plan(load_study(["seeds=[0]", *settings])).trials]

    # Of trials that were stored before there were rates.
    assert ids()[0] == "4481d5d905700e7c"
    assert ids("missing.train=random", "missing.rate=0.3")[0] == "349861189a58c93b"
    random = "missing.train=random"
    plain, zero = ids(random), ids(random, "missing.rates.thumb=0")
    assert plain == zero
    some = ids(random, "missing.rates.thumb=0.1")
    joint = ids(random, "missing.together=[{missing: thumb+profile, probability: 0.1}]")
    assert len({plain[0], some[0], joint[0]}) == 3


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"together": [TOGETHER[0], {"missing": "depth+ir", "probability": 0.2}]}, "twice"),
        ({"rates": {"rgb": True}}, "must be a probability"),
        ({"rates": {"rgb": float("nan")}}, "must be a probability"),
        ({"together": [{"missing": "rgb+rgb", "probability": 0.2}]}, "names a modality twice"),
        ({"together": [{"missing": "rgb+ir"}]}, "must be of the form"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        checked(missing(**settings), NAMES)


# ---------------------------------------------------------------------- a trial


def test_a_trial_is_trained_on_the_pattern_and_says_what_it_lacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        "methods=[sf_md]",
        "seeds=[0]",
        "train.epochs=1",
        "dataset.limit=200",
        "executor=local",
        "tracking.enabled=false",
        f"output={tmp_path}",
        "missing.train=random",
        "missing.rates.spectrum=0.5",
        "missing.together=[{missing: thumb+profile, probability: 0.3}]",
    ]
    digits, seen = DATASETS.get("digits"), []

    def load(self: Any, split: str, plain: Any = digits.load) -> Split:
        """Absent inputs are NaN, so that one that is encoded would end the trial."""
        whole: Split = plain(self, split)
        if split != "train":
            return whole
        settings_ = missing(
            rates={"spectrum": 0.5}, together=[{"missing": "thumb+profile", "probability": 0.3}]
        )
        law = profile(settings_, self.spec.names)
        assert law is not None
        left = draw_left(whole.available, law, Streams(0).generator("missing"))
        seen.append(left)
        inputs = {
            name: torch.where(left[:, v].reshape(-1, 1, 1, 1), x.float(), torch.nan)
            for v, (name, x) in enumerate(whole.inputs.items())
        }
        return replace(whole, inputs=inputs)

    monkeypatch.setattr(digits, "load", load)
    assert guarded(run.main, settings) == 0
    results = read(Plan(load_study(settings)), Store.below(tmp_path))
    (done,) = results.finished
    lacked = (~seen[0]).double().mean(0).tolist()
    named = ", ".join(
        f"{name} {100 * share:.1f} %"
        for name, share in zip(("thumb", "spectrum", "profile"), lacked, strict=True)
    )
    assert f"missing from the 200 training samples: {named}" in done.record["remarks"]
    assert done.record["spec"]["missing"] == {
        "train": "random",
        "rate": 0.0,
        "seed": 0,
        "complete_subset": False,
        "rates": {"spectrum": 0.5},
        "together": [{"missing": "thumb+profile", "probability": 0.3}],
    }
    text = (tmp_path / "quickstart/report.md").read_text()
    assert "random (spectrum 0.5, thumb+profile at once 0.3, pattern seed 0)" in text

"""The arithmetic of `mixer bench`, on figures that are plain to see."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from cli.bench.ceilings import Classifying, Decoding, Running
from cli.bench.findings import Findings, Subject
from cli.bench.peaks import Product
from cli.bench.rig import Split
from cli.bench.stopwatch import Measured


def findings(figures: Mapping[Subject, tuple[float, ...]], **changes: Any) -> Findings:
    fields: dict[str, Any] = {
        "provider": "cpu",
        "precision": "int8",
        "split": Split(2, 1),
        "batch_size": 8,
        "gflops": 0.5,
    }
    return Findings({key: Measured(rounds) for key, rounds in figures.items()}, **{**fields, **changes})


FIGURES: dict[Subject, tuple[float, ...]] = {
    Decoding(1): (1000.0, 1100.0, 900.0),
    Decoding(2): (2000.0, 2000.0, 2000.0),
    Running("fp32", 1, 2, 1): (90.0, 90.0, 90.0),
    Running("fp32", 1, 2, 8): (100.0, 100.0, 100.0),
    Running("fp32", 2, 1, 1): (120.0, 60.0, 90.0),
    Running("fp32", 2, 1, 8): (100.0, 80.0, 96.0),
    Running("int8", 1, 2, 1): (210.0, 210.0, 210.0),
    Running("int8", 1, 2, 8): (220.0, 220.0, 220.0),
    Running("int8", 2, 1, 1): (250.0, 250.0, 250.0),
    Running("int8", 2, 1, 8): (300.0, 160.0, 240.0),
    Classifying("int8", 1, 2, 1): (150.0, 150.0, 150.0),
    Classifying("int8", 2, 1, 4): (200.0, 210.0, 220.0),
    Product("float32", 512, 1, 2): (50.0, 60.0, 70.0),
    Product("float32", 512, 2, 1): (100.0, 40.0, 80.0),
    Product("int8", 512, 2, 1): (250.0, 250.0, 250.0),
}


def test_the_best_of_a_precision_is_its_highest_median() -> None:
    assert findings(FIGURES).best("fp32") == Running("fp32", 1, 2, 8)
    assert findings(FIGURES).best("int8") == Running("int8", 2, 1, 1)


def test_the_choice_of_the_service_is_its_split_at_its_largest_batch() -> None:
    assert findings(FIGURES).choice("fp32") == Running("fp32", 2, 1, 8)
    assert findings(FIGURES).choice_over_best("fp32") == pytest.approx(0.96)


def test_a_choice_that_is_the_best_reaches_all_of_it() -> None:
    assert findings(FIGURES, batch_size=1).choice_over_best("int8") == 1


def test_a_precision_is_compared_with_fp32_at_the_same_split_and_batch_size_round_by_round() -> None:
    """300 / 100, 160 / 80, 240 / 96 images/s."""
    assert findings(FIGURES).times_fp32("int8") == 2.5
    assert findings(FIGURES, batch_size=1).times_fp32("int8") == pytest.approx(250 / 90)
    assert findings(FIGURES).times_fp32("fp32") == 1


def test_without_fp32_there_is_nothing_to_compare_with() -> None:
    alone = {key: rounds for key, rounds in FIGURES.items() if getattr(key, "precision", "") != "fp32"}
    assert findings(alone).times_fp32("int8") is None
    assert findings(alone).precisions() == ["int8"]


def test_efficiency_is_the_models_arithmetic_over_the_peak_of_its_kind_of_numbers() -> None:
    """fp32: 100 images/s of 0.5 GFLOP against 100, 40, 80 GFLOP/s: 0.5, 1.25, 0.625 of the peak."""
    efficiency = findings(FIGURES).efficiency("fp32")
    assert efficiency is not None
    assert (efficiency.model, efficiency.peak, efficiency.share) == (50, 80, 0.625)
    assert efficiency.product == Product("float32", 512, 2, 1)
    int8 = findings(FIGURES).efficiency("int8")
    assert int8 is not None
    assert (int8.model, int8.peak, int8.share) == (125, 250, 0.5)


def test_efficiency_is_taken_round_by_round() -> None:
    """0.5, 0.4 and 1.0 of the peak: the ratio of the medians would be 0.6."""
    drifting = {Running("fp32", 2, 1, 1): (100.0, 40.0, 60.0), Product("float32", 512, 2, 1): (200.0, 100.0, 60.0)}
    efficiency = findings(drifting, gflops=1.0).efficiency("fp32")
    assert efficiency is not None
    assert efficiency.share == 0.5


def test_without_the_models_arithmetic_or_a_peak_there_is_no_efficiency() -> None:
    assert findings(FIGURES, gflops=None).efficiency("fp32") is None
    no_int8 = {key: rounds for key, rounds in FIGURES.items() if key != Product("int8", 512, 2, 1)}
    assert findings(no_int8).efficiency("int8") is None


def test_the_model_binds_where_it_is_slower() -> None:
    verdict = findings(FIGURES).verdict()
    assert verdict.resource == "model"
    assert verdict.sentence == (
        "The model binds: alone it does 250 images/s, decoding alone 2,000; it takes 89% of a picture's processor time."
    )


def test_decoding_binds_where_it_is_slower() -> None:
    slow = {**FIGURES, Decoding(1): (50.0,) * 3, Decoding(2): (125.0,) * 3}
    verdict = findings(slow).verdict()
    assert verdict.resource == "decode"
    assert verdict.sentence == (
        "Decoding binds: alone it does 125 images/s, the model alone 250; it takes 67% of a picture's processor time."
    )


def test_on_a_gpu_the_two_share_no_processor() -> None:
    assert findings(FIGURES, provider="cuda").verdict().sentence == (
        "The model binds: alone it does 250 images/s, decoding alone 2,000."
    )


def test_the_verdict_is_about_the_precision_that_the_service_would_choose() -> None:
    fast = {key: rounds for key, rounds in FIGURES.items() if not isinstance(key, Decoding)} | {
        Decoding(1): (150.0,) * 3
    }
    assert findings(fast).verdict().resource == "decode"
    assert findings(fast, precision="fp32").verdict().resource == "model"


def test_everything_is_in_the_json() -> None:
    content = json.loads(json.dumps(findings(FIGURES).as_json()))
    assert content["service"] == {
        "provider": "cpu",
        "precision": "int8",
        "instances": 2,
        "lanes": 2,
        "threads": 1,
        "batch_size": 8,
    }
    assert content["gflop_per_image"] == 0.5
    assert content["decode"][0] == {
        "threads": 1, "images_s": 1000, "spread": 0.2, "rounds": [1000, 1100, 900],
    }  # fmt: skip
    assert len(content["model"]) == 8
    assert content["model"][0]["precision"] == "fp32"
    assert {"instances", "threads", "batch_size", "images_s", "spread", "rounds"} < set(content["model"][0])
    assert content["model_summary"]["fp32"]["service_over_best"] == pytest.approx(0.96)
    assert content["model_summary"]["int8"]["best"]["images_s"] == 250
    assert content["model_summary"]["int8"]["efficiency"]["product"]["number"] == "int8"
    assert len(content["decode_and_model"]) == 2
    assert content["ceiling"]["images_s"] == 210
    assert len(content["peaks"]) == 3
    assert content["peaks"][0]["gflop_s"] == 60
    assert content["binds"]["resource"] == "model"

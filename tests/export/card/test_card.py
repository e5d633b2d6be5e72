import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from app.serving.bundles import find_bundles
from app.serving.cards import read_card
from export.bundle import Published, publish
from export.card import prose, schema
from export.card.facts import CardFacts, GraphFacts, Throughput, read_graphs
from export.card.model_card import architecture_of
from export.card.readme import BEGIN, END, readme
from export.card.writing import write_card
from export.outgoing.timm_card import timm_readme
from export.target import expect_bundle_folder
from export.to_onnx import TorchNetwork
from model.errors import ExportError
from model.evaluation.findings import Findings, findings_of
from model.evaluation.robustness import Robustness, Unfamiliar
from model.network.checkpoint import Checkpoint
from model.shifts.corruptions import CORRUPTIONS
from model.shifts.geometry import GEOMETRY
from model.spec import Canary, Metrics, ModelSpec, Network, Source
from tests.export.toy_checkpoints import toy_checkpoint


def front_matter(text: str) -> Any:
    """As model hubs read it. Their library looks at these variables when it is first imported in a process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_HUB_DISABLE_TELEMETRY", "HF_HUB_DISABLE_XET"):
            patch.setenv(name, "1")
        from huggingface_hub import ModelCard  # noqa: PLC0415
    return ModelCard(text).data


METRICS = Metrics(data_set="pets, test", num_pictures=200, top1=0.9, top5=1, calibration_error=0.02)
SPEC = ModelSpec(
    name="pets", image_size=16, patch_size=8, channels=3, num_classes=3, labels=("cat", "dog | fox", "eel"),
    source=Source(origin="test", license="Apache-2.0"), metrics=METRICS,
    canary=Canary(picture="AAAA", logits=(0, 1, 2), atol=1),
    network=Network(hidden_dim=8, num_blocks=2, tokens_mlp_dim=4, channels_mlp_dim=16),
)  # fmt: skip
FACTS = CardFacts((GraphFacts("fp32.onnx", 1234, SPEC), GraphFacts("int8.onnx", 432, SPEC)))
PROSE = """
overview = "Tells pets apart."
uses = ["Photographs of one pet."]
limits = ["No birds."]
hub_datasets = ["someone/pets"]
[[data]]
name = "Pets"
link = "https://example.org/pets"
license = "CC0-1.0"
splits = "80 for training, 20 for testing"
"""


@pytest.fixture(scope="module")
def findings() -> Findings:
    logits = np.array([[2.0, 0, 0], [0, 2, 0], [2, 0, 0], [0, 1, 0]])
    robustness = Robustness(
        num_pictures=4, seed=0, clean=0.75,
        corruptions=dict.fromkeys(CORRUPTIONS, (0.7, 0.6, 0.5, 0.4, 0.3)), geometry=dict.fromkeys(GEOMETRY, 0.25),
    )  # fmt: skip
    unfamiliar = {"noise": Unfamiliar(num_pictures=5, auroc=0.9)}
    truth = np.array([0, 1, 1, 1])
    return findings_of("pets, test", logits, truth, SPEC.labels, 1.0, robustness=robustness, unfamiliar=unfamiliar)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "pets").mkdir()
    return tmp_path / "pets"


def read_json(folder: Path) -> schema.ModelCard:
    return schema.ModelCard.model_validate_json((folder / "card.json").read_text(encoding="utf-8"))


# --- facts ---


def test_the_size_of_a_network_is_what_torch_counts(checkpoint: Checkpoint, bundle: Published) -> None:
    graphs = read_graphs(bundle.graphs["fp32"].path.parent)
    assert [graph.name for graph in graphs] == ["fp32.onnx", "fp16.onnx", "int8.onnx"]
    assert [graph.num_bytes for graph in graphs] == [one.path.stat().st_size for one in bundle.graphs.values()]
    facts = CardFacts(graphs)
    assert facts.num_parameters == sum(parameter.numel() for parameter in checkpoint.model.parameters())
    assert facts.mmac is not None
    assert graphs[0].spec.gflops == pytest.approx(facts.mmac * 2e-3)


def test_a_hidden_layer_of_the_head_counts_and_is_told() -> None:
    made = toy_checkpoint(head_hidden_dim=20)
    network = Network(**{size: getattr(made.model.config, size) for size in Network.model_fields})
    facts = CardFacts((GraphFacts("fp32.onnx", 1, made.spec.model_copy(update={"network": network})),))
    assert facts.num_parameters == sum(parameter.numel() for parameter in made.model.parameters())
    assert architecture_of(facts).endswith(", a hidden layer of 20 in the head")


def test_a_folder_without_a_graph_and_a_foreign_one_are_refused(folder: Path) -> None:
    with pytest.raises(ExportError, match="has no graph; expected a bundle"):
        read_graphs(folder)


# --- the front matter ---


@pytest.mark.parametrize("spec", [SPEC, SPEC.model_copy(update={"metrics": None, "source": Source(origin="test")})])
def test_model_hubs_read_the_front_matter(spec: ModelSpec) -> None:
    written = prose.CardProse(hub_datasets=("someone/pets", "a: b # c", "null"))
    graphs = tuple(replace(graph, spec=spec) for graph in FACTS.graphs)
    data = front_matter(readme(CardFacts(graphs), written, ()))
    assert (data.library_name, data.pipeline_tag) == ("onnx", "image-classification")
    assert data.license == spec.source.license.lower()
    assert data.datasets == ["someone/pets", "a: b # c", "null"]
    results = data.eval_results or []
    if spec.metrics is None:
        assert not results
        return
    assert data.model_name == "pets"
    assert [(one.metric_name, one.metric_value) for one in results] == [
        ("top-1, fp32.onnx", 0.9), ("top-5, fp32.onnx", 1.0), ("top-1, int8.onnx", 0.9), ("top-5, int8.onnx", 1.0),
    ]  # fmt: skip
    assert {(one.dataset_type, one.dataset_name) for one in results} == {("someone/pets", "pets, test")}


# --- README.md ---


def test_a_head_that_nobody_has_trained_is_told_first(
    tmp_path: Path, checkpoint: Checkpoint, bundle: Published
) -> None:
    with torch.no_grad():
        blank = toy_checkpoint()
        blank.model.head.weight.zero_()
    publish(TorchNetwork(blank), tmp_path, precisions=())
    write_card(tmp_path, CardFacts(read_graphs(tmp_path)))
    lines = (tmp_path / "README.md").read_text(encoding="utf-8").splitlines()
    told = "The head is untrained: every picture gets the same answer, and nothing is classified. Train it first."
    assert lines[lines.index("# toy") + 2] == f"**{told}**"
    considerations = read_json(tmp_path).considerations
    assert considerations is not None
    assert considerations.limitations[0].description == told
    assert f"**{told}**" in timm_readme(blank, prose.CardProse(), 1)
    for trained in (
        readme(CardFacts(read_graphs(bundle.graphs["fp32"].path.parent)), prose.CardProse(), ()),
        timm_readme(checkpoint, prose.CardProse(), 1),
    ):
        assert "untrained" not in trained


def test_a_class_that_was_never_predicted_has_no_precision(findings: Findings) -> None:
    text = readme(replace(FACTS, findings=findings), prose.CardProse(), ())
    assert "| cat | 1 | 50.0% | 100.0% | 66.7% |" in text
    never = findings_of("pets, test", np.array([[2.0, 0, 0], [2, 0, 0]]), np.array([0, 1]), SPEC.labels, 1.0)
    text = readme(replace(FACTS, findings=never), prose.CardProse(), ())
    assert "| dog \\| fox | 1 | n/a | 0.0% | 0.0% |" in text


def test_of_many_classes_the_worst_are_told() -> None:
    labels = tuple(f"class{index:02}" for index in range(60))
    logits = np.eye(60)
    logits[[7, 8]] = logits[[8, 7]]  # these two are taken for each other
    text = readme(
        replace(FACTS, findings=findings_of("pets", logits, np.arange(60), labels, 1.0)), prose.CardProse(), ()
    )
    assert "The 20 of 60 classes with the lowest F1, the lowest first; mean F1 96.7%:" in text
    told = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| class") and line[7].isdigit()]
    assert (len(told), told[:3]) == (20, ["| class07", "| class08", "| class00"])


def test_a_written_readme_is_kept_below_and_stays_there() -> None:
    earlier = "---\nlicense: mit\nlanguage:\n- en\n# a note\ninference: false\n---\n# By hand\n\nProse.\n"
    once = readme(FACTS, prose.CardProse(), (), earlier)
    assert once.endswith(f"{END}\n\n# By hand\n\nProse.\n")
    data = front_matter(once)
    assert (data.license, data.language, data.get("inference")) == ("apache-2.0", ["en"], False)
    assert readme(FACTS, prose.CardProse(), (), once) == once
    above = once.replace(BEGIN, f"Before.\n\n{BEGIN}").replace("90.00%", "an old number")
    again = readme(FACTS, prose.CardProse(), (), above)
    assert "Before.\n\n" + BEGIN in again
    assert "an old number" not in again
    with pytest.raises(ExportError, match="expected both, or neither"):
        readme(FACTS, prose.CardProse(), (), once.replace(END, ""))
    assert readme(FACTS, prose.CardProse(), (), again) == again


def test_it_begins_with_no_front_matter_of_others() -> None:
    text = "---\nnot closed"
    assert readme(FACTS, prose.CardProse(), (), text).endswith("\n---\nnot closed\n")


def test_cells_cannot_break_a_table(findings: Findings) -> None:
    text = readme(replace(FACTS, findings=findings), prose.CardProse(), ("reliability",))
    assert "| dog \\| fox | 3 |" in text
    assert "| eel |" not in text, "it has no picture"
    assert "(charts/reliability.svg)" in text
    assert "(charts/geometry.svg)" not in text, "it was not drawn"


# --- card.json ---


def test_the_json_has_every_number(folder: Path, findings: Findings) -> None:
    throughput = Throughput(1234.5, "int8.onnx", "a fast one, 2 CPUs, cpu")
    (folder / "card.toml").write_text(PROSE)
    write_card(folder, replace(FACTS, findings=findings, throughput=throughput))
    card = read_json(folder)
    assert card.schema_version == "0.0.2"
    assert card.model_details.overview == "Tells pets apart."
    assert card.considerations.limitations == (schema.Described(description="No birds."),)
    assert card.model_parameters.data[0].link == "https://example.org/pets"
    found = {(one.type, one.slice): one.value for one in card.quantitative_analysis.performance_metrics}
    assert found["top-1 accuracy", "fog, strength 5"] == 0.3
    assert found["top-1 accuracy", "mirrored"] == 0.25
    chance = findings.calibration_error_by_chance
    of_chance = "expected calibration error if perfectly calibrated"
    assert found[f"{of_chance}, mean", "fp32.onnx, pets, test"] == round(chance.mean, 6)
    assert found[f"{of_chance}, 95th percentile", "fp32.onnx, pets, test"] == round(chance.percentile_95, 6)
    assert found["recall", "dog | fox"] == pytest.approx(2 / 3, abs=1e-6)
    assert found["out-of-distribution AUROC", "noise, 5 pictures"] == 0.9
    assert found["images a second", "int8.onnx, a fast one, 2 CPUs, cpu"] == 1234.5
    assert not {value for (_, where), value in found.items() if where == "eel"}
    first = card.quantitative_analysis.performance_metrics[0]
    assert first.confidence_interval is not None
    assert first.confidence_interval.lower_bound < first.value < first.confidence_interval.upper_bound
    json.loads((folder / "card.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_of_pictures_that_calibrated_the_model_it_tells_what_held_on_those_left_out(folder: Path) -> None:
    logits, labels = np.random.default_rng(0).normal(0, 2, (150, 3)), np.arange(150) % 3
    findings = findings_of("pets, validation", logits, labels, SPEC.labels, 1.0, has_calibrated=True)
    write_card(folder, replace(FACTS, findings=findings))
    crossed = findings.cross_validated
    assert f"and judged by the others: {crossed}." in (folder / "README.md").read_text("utf-8")
    assert crossed is not None
    metrics = read_json(folder).quantitative_analysis.performance_metrics
    where = "fp32.onnx, pets, validation, pictures left out of the calibration"
    assert {one.type: one.value for one in metrics if one.slice == where} == {
        "loss": round(crossed.loss, 6),
        "expected calibration error": round(crossed.calibration_error, 6),
        "pictures not below the energy threshold": round(crossed.familiar, 6),
        "sets of coverage 0.9 with the right label": round(crossed.covered[0], 6),
        "sets of coverage 0.95 with the right label": round(crossed.covered[1], 6),
        "sets of coverage 0.99 with the right label": round(crossed.covered[2], 6),
    }


# --- the files ---


def test_a_card_is_served_and_does_not_stand_in_the_way_of_an_export(folder: Path, findings: Findings) -> None:
    path = write_card(folder, replace(FACTS, findings=findings))
    assert path == folder / "README.md"
    charts = sorted(path.name for path in (folder / "charts").iterdir())
    assert charts == ["corruptions.svg", "geometry.svg", "reliability.svg", "risk-coverage.svg", "unfamiliar.svg"]
    assert read_card(folder) is not None
    (folder / "fp32.onnx").touch()
    expect_bundle_folder(folder)
    assert find_bundles(folder.parent) == {"pets": folder}
    write_card(folder, FACTS)
    assert not list((folder / "charts").iterdir()), "those of an earlier card"


def test_a_folder_that_is_prepared_with_prose_takes_an_export(folder: Path) -> None:
    (folder / "card.toml").write_text(PROSE)
    expect_bundle_folder(folder)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("overview = 1", "overview: Input should be a valid string; expected overview, owners"),
        ("limit = ['x']", "limit: Extra inputs are not permitted"),
        ("[[data]]\nlink = 'x'", r"data\.0\.name: Field required"),
        ("= 1", "cannot be read"),
    ],
)
def test_wrong_prose_is_told_in_one_line(text: str, told: str, folder: Path) -> None:
    (folder / "card.toml").write_text(text)
    with pytest.raises(ExportError, match=told):
        prose.read_prose(folder)


def test_a_card_that_cannot_be_written_says_so(folder: Path) -> None:
    (folder / "card.json").mkdir()
    with pytest.raises(ExportError, match="cannot be written"):
        write_card(folder, FACTS)


def test_the_prose_of_a_checkpoint_comes_along(folder: Path, tmp_path: Path) -> None:
    prose.bring_prose(tmp_path, folder)
    assert not (folder / "card.toml").exists()
    (tmp_path / "card.toml").write_text(PROSE)
    prose.bring_prose(tmp_path, folder)
    assert prose.read_prose(folder).overview == "Tells pets apart."

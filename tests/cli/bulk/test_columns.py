"""What engines call: columns in, and out the rows of `mixer classify` and `mixer embed`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from app.errors import BadSettings
from cli.bulk.columns import Classify
from tests.app.color_bundle import BLUE, RED, image

Mixer = Callable[..., int]


@pytest.fixture
def broken(images: Path) -> Path:
    """Pictures, and files that are none."""
    (images / "broken.png").write_bytes(image(RED, size=(99, 99))[:60])
    (images / "empty.jpg").write_bytes(b"")
    return images


def rows_of(mixer: Mixer, command: str, folder: Path, bundle: Path, *flags: object) -> Any:
    output = folder.parent / f"{command}.parquet"
    mixer(command, folder, "--bundle", bundle, "--output", output, *flags)
    return pq.read_table(output)


def test_paths_become_the_rows_of_classify(mixer: Mixer, bundle: Path, broken: Path) -> None:
    expected = rows_of(mixer, "classify", broken, bundle, "--top-k", 2, "--threshold", 1.5)
    assert expected["error_code"].null_count == len(expected) - 2
    assert Classify(bundle, top_k=2, threshold=1.5)(expected.select(["path"])) == expected


@pytest.mark.parametrize("kind", [list, np.array, pa.array])
def test_bytes_become_them_too_whatever_holds_the_columns(
    kind: Callable[..., Any], mixer: Mixer, bundle: Path, broken: Path
) -> None:
    expected = rows_of(mixer, "classify", broken, bundle)
    paths = expected["path"].to_pylist()
    payloads = np.array([Path(path).read_bytes() for path in paths], dtype=object)
    columns = {"path": kind(paths), "bytes": payloads if kind is np.array else kind(payloads.tolist())}
    batch = columns if kind is not pa.array else pa.record_batch(columns)
    assert Classify(bundle)(batch) == expected


def test_embeddings_are_those_of_embed(mixer: Mixer, bundle: Path, broken: Path) -> None:
    expected = rows_of(mixer, "embed", broken, bundle)
    assert Classify(bundle, embeddings=True)(expected.select(["path"])) == expected


def test_order_is_kept_over_threads(bundle: Path, many: Path) -> None:
    paths = [f"{many}/{at:03}.png" for at in range(249, -1, -1)]
    rows = Classify(bundle, cpus=3)({"path": paths})
    assert rows["path"].to_pylist() == paths
    assert rows["label"].to_pylist() == [["red", "green", "blue"][int(path[-7:-4]) % 3] for path in paths]


def test_what_is_no_picture_is_a_row(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXER_MAX_IMAGE_BYTES", "1000")
    rows = Classify(bundle)({"path": ["a", "b", "c", "d"], "bytes": [None, b"none", b"x" * 1001, image(BLUE)]})
    assert rows["error_code"].to_pylist() == ["bad_request", "bad_picture", "too_many_bytes", None]
    assert rows["label"].to_pylist() == [None, None, None, "blue"]
    missing = Classify(bundle)({"path": [str(tmp_path / "none.png")]})
    assert missing["error_code"].to_pylist() == ["unreadable_file"]


def test_an_empty_batch_has_the_columns_all_the_same(bundle: Path) -> None:
    rows = Classify(bundle)({"path": [], "bytes": []})
    assert (len(rows), rows.schema.field("probability").type) == (0, pa.float64())


def test_what_the_model_has_not_is_said_when_it_is_made(bundle: Path) -> None:
    with pytest.raises(BadSettings, match="top_k is 4; expected 1 to 3"):
        Classify(bundle, top_k=4)

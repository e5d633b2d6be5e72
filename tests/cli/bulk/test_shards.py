"""Sources cut into shards: every picture once, in order, and read by whoever does the shard."""

import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cli.bulk.entries import Ready, ready
from cli.bulk.shards import Slice, shards_of
from cli.bulk.sources import Sources
from cli.bulk.stores import SourceError
from tests.app.color_bundle import GREEN, image
from tests.cli.bulk.conftest import MOST, contents


def test_a_folder_is_cut_and_files_are_named(many: Path) -> None:
    shards = list(shards_of(Sources([str(many)], MOST), 100))
    assert [(shard.number, shard.count) for shard in shards] == [(0, 100), (1, 100), (2, 50)]
    assert all(isinstance(piece, Ready) for shard in shards for piece in shard.pieces)
    names = [entry.name for shard in shards for entry in shard.entries(MOST)]
    assert names == [f"{many}/{at:03}.png" for at in range(250)]


def test_containers_become_slices_with_the_same_bytes(many: Path, tmp_path: Path) -> None:
    archive = tmp_path / "many.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(many, ".")
    table = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": [1, 2], "png": [image(GREEN), None]}), table)
    sources = [str(archive), str(many / "000.png"), f"{table}::png"]
    shards = list(shards_of(Sources(sources, MOST), 200))
    assert shards[0].pieces == (Slice(str(archive), 0, 200),)
    assert [type(piece) for piece in shards[1].pieces] == [Slice, Ready, Slice]
    assert shards[1].pieces[2] == Slice(f"{table}::png", 0, 2)
    read = [ready(entry) for shard in shards for entry in shard.entries(MOST)]
    assert [one.name for one in read] == [one.name for one in contents(*sources)]
    assert [one.content for one in read if "::" in one.name] == [
        one.content for one in contents(*sources) if "::" in one.name
    ]


def test_pictures_that_only_this_process_sees_are_in_their_shard() -> None:
    import fsspec  # noqa: PLC0415

    fsspec.filesystem("memory").pipe_file("memory://shards/green.png", image(GREEN))
    (shard,) = shards_of(Sources(["memory://shards"], MOST), 10)
    assert shard.pieces == (Ready("memory://shards/green.png", image(GREEN)),)


def test_what_is_missing_is_in_its_shard(tmp_path: Path) -> None:
    (shard,) = shards_of(Sources([str(tmp_path / "none.png")], MOST), 10)
    ((_, content),) = shard.entries(MOST)
    assert content == ("missing_file", "It does not exist; expected a picture, a folder, an archive, a pattern or -.")


def test_the_digest_tells_other_names_and_other_cuts_apart(many: Path) -> None:
    def digests(size: int) -> list[str]:
        return [shard.names_sha256 for shard in shards_of(Sources([str(many)], MOST), size)]

    before = digests(100)
    assert before == digests(100)
    assert before[0] != digests(99)[0]
    (many / "150.png").unlink()
    assert [mine == other for mine, other in zip(before, digests(100), strict=True)] == [True, False, False]


def test_standard_input_is_nobody_elses() -> None:
    with pytest.raises(SourceError, match="- is standard input"):
        next(shards_of(Sources(["-"], MOST), 10))

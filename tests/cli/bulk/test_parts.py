"""An output that many write: its files are its manifest, and each is there whole or not at all."""

import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.bulk.manifest import OutputError
from cli.bulk.parts import Parts, name_of
from cli.bulk.run import Tally
from cli.bulk.shard_writer import ShardWriter
from cli.bulk.shards import Shard, shards_of
from cli.bulk.sources import Sources
from cli.bulk.stores import SourceError
from tests.app.color_bundle import color_spec, write_bundle
from tests.cli.bulk.conftest import MOST

Mixer = Callable[..., int]


def shards(folder: Path, size: int = 100) -> Iterator[Shard]:
    return shards_of(Sources([str(folder)], MOST), size)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "o.parquet"


def writer(output: Path, folder: Path, bundle: Path, parts: Parts | None = None, **wanted: object) -> ShardWriter:
    begun = None if parts is None else parts.begun
    return ShardWriter(str(output), (str(folder),), {"bundle": bundle, **wanted}, begun)


def write(output: Path, folder: Path, bundle: Path, numbers: set[int], *, resume: bool = False) -> Tally:
    """Do these shards of those that are left; what earlier ones have done."""
    parts, tally = Parts(str(output)), Tally()
    rest = list(parts.rest(shards(folder), tally, resume=resume))
    writes = writer(output, folder, bundle, parts)
    for shard in rest:
        if shard.number in numbers:
            writes.write(shard)
    return tally


def packed(archive: Path, folder: Path, count: int) -> None:
    """The first pictures of a folder, in an archive."""
    with tarfile.open(archive, "w") as tar:
        for path in sorted(folder.iterdir())[:count]:
            tar.add(path, path.name)


def test_shards_in_any_order_are_the_rows_of_classify(
    mixer: Mixer, bundle: Path, many: Path, output: Path, tmp_path: Path
) -> None:
    (many / "007.png").write_bytes(b"no picture")
    write(output, many, bundle, {1})
    assert write(output, many, bundle, {2}, resume=True) == Tally(100, 0)
    assert write(output, many, bundle, {0, 1, 2}, resume=True) == Tally(150, 0)
    assert write(output, many, bundle, set(), resume=True) == Tally(250, 1)
    mixer("classify", many, "--bundle", bundle, "--output", tmp_path / "cli.parquet")
    assert pq.read_table(output) == pq.read_table(tmp_path / "cli.parquet")


def test_what_a_kill_has_left_half_is_no_part(bundle: Path, many: Path, output: Path) -> None:
    write(output, many, bundle, {0})
    half = output / f".{name_of(1)}.77.tmp"
    half.write_bytes((output / name_of(0)).read_bytes()[:100])
    assert write(output, many, bundle, {1, 2}, resume=True) == Tally(100, 0)
    assert sorted(path.name for path in output.iterdir()) == [name_of(at) for at in range(3)]


def test_an_output_that_is_there_needs_resume(bundle: Path, many: Path, output: Path) -> None:
    write(output, many, bundle, {0})
    with pytest.raises(OutputError, match="exists; expected a new name, or --resume"):
        write(output, many, bundle, {1})


def test_sources_that_changed_do_not_go_on(bundle: Path, many: Path, output: Path) -> None:
    write(output, many, bundle, {0, 1, 2})
    (many / "249.png").unlink()
    with pytest.raises(SourceError, match="has other pictures than its part of them"):
        write(output, many, bundle, set(), resume=True)
    for at in range(200, 249):
        (many / f"{at}.png").unlink()
    with pytest.raises(SourceError, match=r"which has part-00002\.parquet, too"):
        write(output, many, bundle, set(), resume=True)


def test_a_shard_whose_pictures_were_replaced_before_it_is_done_is_not_written(
    bundle: Path, many: Path, output: Path, tmp_path: Path
) -> None:
    archive, parts = tmp_path / "many.tar", Parts(str(output))
    packed(archive, many, 4)
    writes = writer(output, archive, bundle, parts)
    first, second = parts.rest(shards(archive, 2), Tally(), resume=False)
    packed(archive, many, 2)
    writes.write(first)
    with pytest.raises(SourceError, match=r"part-00001\.parquet of .* would have other pictures than were planned"):
        writes.write(second)
    packed(archive, many, 4)
    tally = Tally()
    assert list(Parts(str(output)).rest(shards(archive, 2), tally, resume=True)) == [second]
    assert tally == Tally(2, 0)


def test_another_model_or_wish_does_not_go_on(bundle: Path, many: Path, output: Path, tmp_path: Path) -> None:
    write(output, many, bundle, {0})
    parts = Parts(str(output))
    list(parts.rest(shards(many), Tally(), resume=True))
    other = write_bundle(tmp_path / "other", color_spec(version="8"))
    with pytest.raises(OutputError, match="was begun with the model's version 7, and this command has 8"):
        writer(output, many, other, parts)
    with pytest.raises(OutputError, match="was begun with the option top_k not set, and this command has 2"):
        writer(output, many, bundle, parts, top_k=2)
    with pytest.raises(OutputError, match="was begun with mixer classify, and this is mixer embed"):
        writer(output, many, bundle, parts, embeddings=True)


def test_a_file_of_somebody_else_is_none_of_ours(bundle: Path, many: Path, output: Path) -> None:
    output.mkdir()
    (output / name_of(0)).write_bytes(b"PAR1")
    with pytest.raises(OutputError, match=r"part-00000\.parquet is no part of this version"):
        write(output, many, bundle, set(), resume=True)


def test_a_store_behind_a_url_has_them_as_a_folder_does(bundle: Path, many: Path) -> None:
    import fsspec  # noqa: PLC0415

    url = f"memory://parts/{many.parent.name}"
    parts = Parts(url)
    rest = list(parts.rest(shards(many), Tally(), resume=False))
    ShardWriter(url, (str(many),), {"bundle": bundle}).write(rest[1])
    assert [shard.number for shard in Parts(url).rest(shards(many), Tally(), resume=True)] == [0, 2]
    parts.finish()
    assert fsspec.filesystem("memory").exists(f"{url}/_SUCCESS")

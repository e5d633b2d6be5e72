"""Shards and their manifest: every row once, whatever happens in between."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.bulk.entries import Entry
from cli.bulk.formats import Row
from cli.bulk.manifest import Manifest, OutputError, Run
from cli.bulk.outcomes import Failure
from cli.bulk.output import Output, opened, place_of
from cli.bulk.stores import SourceError

RUN = Run("classify", ("pictures",), {"name": "m", "version": "1", "graph": "aa"}, {"top_k": 5})


def rows(*names: str) -> list[Row]:
    return [(name, Failure("bad_picture", "none")) for name in names]


def entries(*names: str) -> Iterator[Entry]:
    return iter([Entry(name, b"") for name in names])


Begin = Callable[..., Output]


@pytest.fixture
def begun() -> Iterator[Begin]:
    """Opens an output, and closes it in the end."""
    outputs: list[Output] = []

    def begin(path: Path, run: Run = RUN, *, resume: bool = False) -> Output:
        outputs.append(opened(place_of(path), run, resume=resume))
        return outputs[-1]

    yield begin
    for output in outputs:
        output.close()


def stopped_after_two_shards(path: Path) -> None:
    output = opened(place_of(path), RUN, resume=False)
    output.write(rows("a", "b"))
    output.write(rows("c"))
    output.close()


def test_a_parquet_output_is_a_folder_of_shards_with_a_manifest(begun: Begin, tmp_path: Path) -> None:
    output = begun(tmp_path / "o.parquet")
    output.write(rows("a", "b"))
    output.write(rows("c"))
    output.finish()
    found = sorted(path.name for path in (tmp_path / "o.parquet").iterdir())
    assert found == ["_manifest.jsonl", "part-00000.parquet", "part-00001.parquet"]
    head, first, second, last = map(json.loads, (tmp_path / "o.parquet" / "_manifest.jsonl").read_text().splitlines())
    assert head["model"]["name"] == "m"
    assert (first["shard"]["start"], first["shard"]["count"], first["shard"]["failures"]) == (0, 2, 2)
    assert (second["shard"]["start"], second["shard"]["count"]) == (2, 1)
    assert last == {"complete": True, "pictures": 3, "failures": 3}


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_csv_and_json_lines_are_one_file_in_the_end(begun: Begin, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"o.{suffix}"
    output = begun(path)
    output.write(rows("a", "b"))
    assert not path.exists()
    output.write(rows("c"))
    output.finish()
    assert len(path.read_text().splitlines()) == 3 + (suffix == "csv")
    assert sorted(one.name for one in tmp_path.iterdir()) == [f"o.{suffix}", f"o.{suffix}.manifest.jsonl"]


def test_what_exists_is_not_written_over(begun: Begin, tmp_path: Path) -> None:
    (tmp_path / "o.csv").write_text("precious")
    with pytest.raises(OutputError, match=r"o\.csv exists; expected a new name, or --resume\.$"):
        begun(tmp_path / "o.csv")
    with pytest.raises(OutputError, match=r"o\.csv has no manifest to resume with; expected a new name\.$"):
        begun(tmp_path / "o.csv", resume=True)
    stopped_after_two_shards(tmp_path / "o.parquet")
    with pytest.raises(OutputError, match="exists; expected a new name, or --resume"):
        begun(tmp_path / "o.parquet")
    assert (tmp_path / "o.csv").read_text() == "precious"


def test_to_resume_what_is_not_there_begins_it(begun: Begin, tmp_path: Path) -> None:
    output = begun(tmp_path / "o.parquet", resume=True)
    assert output.manifest.count == 0
    output.close()


def test_a_resumed_output_goes_on_behind_its_shards(begun: Begin, tmp_path: Path) -> None:
    stopped_after_two_shards(tmp_path / "o.jsonl")
    output = begun(tmp_path / "o.jsonl", resume=True)
    assert [entry.name for entry in output.rest(entries("a", "b", "c", "d"))] == ["d"]
    output.write(rows("d"))
    output.finish()
    paths = [json.loads(line)["path"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert paths == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    "cut", [lambda text: text[:-1], lambda text: text[:-20], lambda text: text[: text.rindex("{") + 1]]
)
def test_a_last_line_that_was_cut_short_does_not_count(begun: Begin, cut: object, tmp_path: Path) -> None:
    stopped_after_two_shards(tmp_path / "o.parquet")
    manifest = tmp_path / "o.parquet" / "_manifest.jsonl"
    assert callable(cut)
    manifest.write_text(cut(manifest.read_text()))
    output = begun(tmp_path / "o.parquet", resume=True)
    assert output.manifest.count == 2
    output.write(rows("c", "d"))
    output.close()
    again = begun(tmp_path / "o.parquet", resume=True)
    assert [shard.count for shard in again.manifest.shards] == [2, 2]
    again.close()


def test_a_manifest_that_was_cut_in_its_first_line_begins_anew(begun: Begin, tmp_path: Path) -> None:
    stopped_after_two_shards(tmp_path / "o.parquet")
    (tmp_path / "o.parquet" / "_manifest.jsonl").write_text('{"mixer_man')
    output = begun(tmp_path / "o.parquet", resume=True)
    assert output.manifest.count == 0
    output.close()


def test_what_a_kill_leaves_half_written_is_removed(begun: Begin, tmp_path: Path) -> None:
    stopped_after_two_shards(tmp_path / "o.parquet")
    half = tmp_path / "o.parquet" / ".part-00002.parquet.tmp"
    half.write_bytes(b"half")
    begun(tmp_path / "o.parquet", resume=True).close()
    assert not half.exists()


def test_a_kill_between_the_last_shard_and_the_join_loses_nothing(begun: Begin, tmp_path: Path) -> None:
    output = begun(tmp_path / "o.csv")
    output.write(rows("a"))
    output.manifest.complete()
    output.close()
    again = begun(tmp_path / "o.csv", resume=True)
    assert again.manifest.is_complete
    again.finish()
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 2


def test_a_kill_while_joined_parts_are_removed_keeps_the_file(begun: Begin, tmp_path: Path) -> None:
    stopped_after_two_shards(tmp_path / "o.csv")
    output = begun(tmp_path / "o.csv", resume=True)
    output.manifest.complete()
    (tmp_path / "o.csv").write_text("joined")
    (tmp_path / "o.csv.parts" / "part-00000.csv").unlink()
    output.finish()
    assert (tmp_path / "o.csv").read_text() == "joined"
    assert not (tmp_path / "o.csv.parts").exists()


@pytest.mark.parametrize("names", [("a", "x", "c"), ("a", "b"), ("b", "a", "c"), ()])
def test_sources_that_changed_beneath_a_shard_are_an_error_that_names_it(
    begun: Begin, names: tuple[str, ...], tmp_path: Path
) -> None:
    stopped_after_two_shards(tmp_path / "o.parquet")
    output = begun(tmp_path / "o.parquet", resume=True)
    with pytest.raises(SourceError, match=r"sources have changed: part-0000[01]\.parquet .* has the pictures [02] to"):
        list(output.rest(entries(*names)))
    output.close()


def test_sources_that_have_more_than_a_finished_output_are_an_error(begun: Begin, tmp_path: Path) -> None:
    stopped_after_two_shards(tmp_path / "o.parquet")
    output = begun(tmp_path / "o.parquet", resume=True)
    output.expect_all(entries("a", "b", "c"))
    with pytest.raises(SourceError, match="more than the 3 pictures"):
        output.expect_all(entries("a", "b", "c", "d"))
    output.close()


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (Run("embed", RUN.sources, RUN.model, RUN.options), "mixer classify, and this is mixer embed"),
        (Run("classify", ("x", "y"), RUN.model, RUN.options), "the sources pictures, and this command has x y"),
        (
            Run("classify", RUN.sources, {**RUN.model, "graph": "bb"}, RUN.options),
            "the model's graph aa, and this .* bb",
        ),
        (Run("classify", RUN.sources, RUN.model, {"top_k": 2}), "the option top_k 5, and this command has 2"),
        (Run("classify", RUN.sources, RUN.model, {"top_k": 5, "set": 0.9}), "option set not set, and this .* 0.9"),
    ],
)
def test_another_run_does_not_go_on_with_it(begun: Begin, run: Run, words: str, tmp_path: Path) -> None:
    stopped_after_two_shards(tmp_path / "o.parquet")
    with pytest.raises(OutputError, match=words):
        begun(tmp_path / "o.parquet", run, resume=True)


def test_one_process_at_a_time_writes_it(begun: Begin, tmp_path: Path) -> None:
    output = begun(tmp_path / "o.parquet")
    with pytest.raises(OutputError, match="written by another process"):
        begun(tmp_path / "o.parquet", resume=True)
    output.close()
    begun(tmp_path / "o.parquet", resume=True).close()


def test_a_name_without_a_known_suffix_or_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"expected a name that ends in \.parquet, \.csv, \.jsonl"):
        place_of(tmp_path / "o.xlsx")
    with pytest.raises(OutputError, match="expected a name in a folder that exists"):
        place_of(tmp_path / "gone" / "o.csv")


@pytest.mark.parametrize("name", ["o.parquet", "o.csv"])
def test_an_output_whose_rows_are_gone_is_not_gone_on_with(begun: Begin, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    stopped_after_two_shards(path)
    (place_of(path).parts / f"part-00001{path.suffix}").unlink()
    with pytest.raises(OutputError, match=r"part-00001\.\w+ is gone, and .*manifest\.jsonl tells of its rows"):
        begun(path, resume=True)


@pytest.mark.parametrize("name", ["o.parquet", "o.csv"])
def test_a_complete_output_that_is_gone_is_not_called_complete(begun: Begin, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    output = begun(path)
    output.write(rows("a"))
    output.finish()
    output.close()
    begun(path, resume=True).close()
    (path / "part-00000.parquet" if path.is_dir() else path).unlink()
    with pytest.raises(OutputError, match="is gone"):
        begun(path, resume=True)


def full(path: Path) -> Output:
    """An output whose manifest has no room for another line."""
    place = place_of(path)
    opened(place, RUN, resume=False).close()
    return Output(place, Manifest(Path("/dev/full").open("w"), RUN), embeds=False)


def test_a_manifest_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    output = full(tmp_path / "o.csv")
    with pytest.raises(OutputError, match=r"part-00000\.csv cannot be written: No space left on device\.$"):
        output.write(rows("a"))
    output.close()
    output = full(tmp_path / "o.jsonl")
    with pytest.raises(OutputError, match=r"o\.jsonl cannot be written: No space left on device\.$"):
        output.finish()
    output.close()


def test_a_name_that_is_too_long_is_one_line(begun: Begin, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        begun(tmp_path / f"{'o' * 300}.csv")

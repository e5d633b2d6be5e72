"""An object store, as moto plays it on a socket of this machine."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cli.bulk.parts import Parts
from cli.bulk.run import Tally
from cli.bulk.shard_writer import ShardWriter
from cli.bulk.shards import shards_of
from cli.bulk.sources import Sources
from cli.bulk.stores import SourceError
from tests.app.color_bundle import GREEN, RED, image
from tests.cli.bulk.conftest import MOST, color_at, names_of

moto_server = pytest.importorskip("moto.server", reason="moto is not installed: nothing plays S3")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed: nothing reads S3")

pytestmark = pytest.mark.process

Mixer = Callable[..., int]


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, many: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with 250 pictures below photos/, a tar of two and a text."""
    import boto3  # noqa: PLC0415 -- where moto is
    import fsspec  # noqa: PLC0415

    for name, value in (("ENDPOINT_URL", endpoint), ("ACCESS_KEY_ID", "test"), ("SECRET_ACCESS_KEY", "test")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    client = boto3.client("s3")
    client.create_bucket(Bucket="shop")
    for path in many.iterdir():
        client.put_object(Bucket="shop", Key=f"photos/{path.stem[0]}/{path.name}", Body=path.read_bytes())
    client.put_object(Bucket="shop", Key="photos/readme.txt", Body=b"no picture")
    client.put_object(Bucket="shop", Key="two.tar", Body=_tar({"r.png": image(RED), "g.png": image(GREEN)}))
    yield "s3://shop"
    client.close()
    fsspec.filesystem("s3").clear_instance_cache()


def _tar(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, payload in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(payload)
            archive.addfile(member, io.BytesIO(payload))
    return file.getvalue()


def test_a_prefix_a_pattern_and_an_archive_of_a_bucket_are_sources(bucket: str) -> None:
    assert names_of(f"{bucket}/photos") == [f"{bucket}/photos/{at // 100}/{at:03}.png" for at in range(250)]
    assert names_of(f"{bucket}/photos/2/24*.png") == [f"{bucket}/photos/2/{at}.png" for at in range(240, 250)]
    assert names_of(f"{bucket}/two.tar") == [f"{bucket}/two.tar::r.png", f"{bucket}/two.tar::g.png"]
    with pytest.raises(SourceError, match=r"^s3://nowhere/x.* cannot be (read|listed): "):
        names_of("s3://nowhere/x/*.png")


def test_a_bucket_becomes_a_table_like_a_folder(bucket: str, mixer: Mixer, bundle: Path, tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    assert mixer("classify", f"{bucket}/photos", f"{bucket}/two.tar", "--bundle", bundle, "--output", output) == 0
    rows = [(row["path"], row["label"]) for row in pq.read_table(output).to_pylist()]
    photos = [(f"{bucket}/photos/{at // 100}/{at:03}.png", color_at(at)) for at in range(250)]
    assert rows == [*photos, (f"{bucket}/two.tar::r.png", "red"), (f"{bucket}/two.tar::g.png", "green")]


def test_shards_of_a_bucket_are_written_to_a_bucket(bucket: str, mixer: Mixer, bundle: Path, tmp_path: Path) -> None:
    sources, output = (f"{bucket}/photos", f"{bucket}/two.tar"), f"{bucket}/labels"
    for done in (0, 200):  # the first run is killed after two of three shards
        parts, tally = Parts(output), Tally()
        rest = list(parts.rest(shards_of(Sources(sources, MOST), 100), tally, resume=done > 0))
        assert tally.count == done
        writer = ShardWriter(output, sources, {"bundle": bundle}, parts.begun)
        for shard in rest[:2]:
            writer.write(shard)
    mixer("classify", *sources, "--bundle", bundle, "--output", tmp_path / "o.parquet")
    store = s3fs.S3FileSystem(use_listings_cache=False)
    assert pq.read_table(output.removeprefix("s3://"), filesystem=store) == pq.read_table(tmp_path / "o.parquet")


def test_processes_read_the_bucket_themselves(
    bucket: str, mixer: Mixer, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIXER_WORKERS", "2")
    output = tmp_path / "o.parquet"
    assert "AWS_ENDPOINT_URL" in os.environ
    assert mixer("classify", f"{bucket}/photos/1", "--bundle", bundle, "--output", output) == 0
    labels = [row["label"] for row in pq.read_table(output).to_pylist()]
    assert labels == [color_at(at) for at in range(100, 200)]

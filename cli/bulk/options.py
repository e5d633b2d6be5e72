"""The options that `mixer classify` and `mixer embed` share for many pictures."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from app.errors import BadSettings

SHARD_SIZE, CONCURRENCY = 10_000, 32

SourcesArgument: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Pictures, folders to search for pictures, patterns, tar and zip files, Parquet files (FILE::COLUMN), "
        "URLs of these (s3://, gs://), and - for standard input.",
    ),
]
OutputOption: TypeAlias = Annotated[
    Path | None, typer.Option(help="Where the rows go: a name that ends in .parquet, .csv or .jsonl.")
]
ResumeOption: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Go on with an output that was stopped; begin one where there is none.")
]
RateOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Part of the pictures that may fail: above it the command stops, within it all is well."
    ),
]
UrlOption: TypeAlias = Annotated[
    str | None, typer.Option(help="A running service that answers instead of this machine, as http://HOST:8000.")
]
KeyOption: TypeAlias = Annotated[str, typer.Option(envvar="MIXER_API_KEY", help="API key for --url.")]
ConcurrencyOption: TypeAlias = Annotated[int, typer.Option(min=1, help="Pictures under way to --url.")]
ShardOption: TypeAlias = Annotated[
    int, typer.Option(min=1, help="Rows of one shard: what is done again at most after a kill.")
]


@dataclass(frozen=True)
class BulkOptions:
    """What they say, checked."""

    output: Path | None = None
    resume: bool = False
    max_failure_rate: float | None = None
    url: str | None = None
    key: str = ""
    concurrency: int = CONCURRENCY
    shard_size: int = SHARD_SIZE

    def __post_init__(self) -> None:
        """Raises BadSettings for what does not go together."""
        if self.resume and self.output is None:
            raise BadSettings("--resume has no --output; expected the output to go on with.")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise BadSettings(f"--url is {self.url!r}; expected http://HOST:PORT or https://HOST:PORT.")

"""`mixer classify` in Daft: pictures that a pattern names, or in a column of Parquet files, to rows in Parquet.

`python deploy/daft/classify.py 'PICTURES/**/*.jpg' OUTPUT BUNDLE [COLUMN]`; s3:// works as a folder does.
"""

import sys

import daft
import pyarrow as pa
from daft import DataFrame, DataType, Series, col

from app.system.cpu_limits import usable_cpus
from cli.bulk.columns import Classify
from cli.bulk.formats import arrow_schema

PART = DataType.from_arrow_type(pa.struct([field for field in arrow_schema(embeds=False) if field.name != "path"]))
TOGETHER = 64  # pictures that Daft hands over at once


@daft.cls(max_concurrency=1)
class Model:
    """The bundle, once in a process of Daft's, with all its processors."""

    def __init__(self, bundle: str) -> None:
        self._classify = Classify(bundle, cpus=usable_cpus())

    @daft.method.batch(return_dtype=PART, unnest=True, batch_size=TOGETHER)
    def rows(self, path: Series, content: Series) -> pa.Array:
        """What each picture shows, or why nobody can tell."""
        rows = self._classify({"path": path.to_pylist(), "bytes": content.to_pylist()})
        return rows.drop_columns(["path"]).combine_chunks().to_struct_array().combine_chunks()


def classified(pictures: DataFrame, bundle: str) -> DataFrame:
    """A row for each of `pictures`, which have the columns path and bytes."""
    return pictures.select(col("path"), Model(bundle).rows(col("path"), col("bytes")))


def files_of(pattern: str) -> DataFrame:
    """The files that a pattern names, under the names that `mixer classify` has for them. One not there is null."""
    found = daft.from_glob_path(pattern)
    name = col("path").regexp_replace("^file://", "")
    return found.select(name.alias("path"), col("path").download(on_error="null").alias("bytes"))


def main(pictures: str, output: str, bundle: str, column: str | None = None) -> None:
    """Classify all of it."""
    if column is None:
        found = files_of(pictures)
    else:
        found = daft.read_parquet(pictures).select(col("path"), col(column).alias("bytes"))
    classified(found, bundle).write_parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`mixer classify` in Spark: pictures in folders, or in a column of Parquet files, to rows in Parquet.

`spark-submit deploy/spark/classify.py PICTURES OUTPUT BUNDLE [COLUMN]`; the workers' Python has mixer-serve[cpu,bulk].
"""

import os
import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from cli.bulk.columns import shared
from model.data.scan import IMAGE_SUFFIXES

SCHEMA = (
    "path string, label string, probability double, labels array<string>, probabilities array<double>, "
    "uncertain boolean, energy double, label_set array<string>, error_code string, error_detail string"
)
TOGETHER = 64  # pictures that Spark hands over at once; its own 10,000 would be gigabytes


def classified(pictures: DataFrame, bundle: str) -> DataFrame:
    """A row for each of `pictures`, which have the columns path and bytes."""

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from shared(bundle)(batch).to_batches()

    return pictures.select("path", "bytes").mapInArrow(rows, SCHEMA)


def files_below(spark: SparkSession, folder: str) -> DataFrame:
    """The pictures below a folder, under the names that `mixer classify` has for them."""
    endings = "|".join(suffix.removeprefix(".") for suffix in sorted(IMAGE_SUFFIXES))
    found = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(folder)
    is_picture = f.lower("path").rlike(f"\\.({endings})$")
    return found.where(is_picture).select(
        f.regexp_replace("path", "^file:", "").alias("path"), f.col("content").alias("bytes")
    )


def main(pictures: str, output: str, bundle: str, column: str | None = None) -> None:
    """Classify all of it."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", TOGETHER).getOrCreate()
    if column is None:
        found = files_below(spark, pictures)
    else:
        found = spark.read.parquet(pictures).select("path", f.col(column).alias("bytes"))
    classified(found, bundle).write.parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`mixer classify` in Spark: pictures in a folder, or in a column of Parquet files, to rows in Parquet.

`spark-submit deploy/spark/classify.py PICTURES OUTPUT BUNDLE [COLUMN]`; the workers' Python has mixer-serve[cpu,bulk].
"""

import os
import sys
from collections.abc import Iterable, Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

from app.settings import load
from cli.bulk.columns import shared
from cli.bulk.sources import Sources

SCHEMA = (
    "path string, label string, probability double, labels array<string>, probabilities array<double>, "
    "uncertain boolean, energy double, label_set array<string>, error_code string, error_detail string"
)
PARTITION = 10_000  # pictures of one task
TOGETHER = 64  # pictures that Spark hands over at once; of its own 10,000 the bytes would be gigabytes


def classified(pictures: DataFrame, bundle: str) -> DataFrame:
    """A row for each of `pictures`, by their column path and, where they have it, their column bytes."""

    def rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            yield from shared(bundle)(batch).to_batches()

    return pictures.mapInArrow(rows, SCHEMA)


def paths_of(spark: SparkSession, source: str) -> DataFrame:
    """The pictures of a folder, a pattern or a URL. Spark's own reader of files leaves out those that are empty."""
    names = [(entry.name,) for entry in Sources([source], load().max_image_bytes).entries()]
    partitions = max(spark.sparkContext.defaultParallelism, len(names) // PARTITION)
    return spark.createDataFrame(names, "path string").repartition(partitions)


def main(pictures: str, output: str, bundle: str, column: str | None = None) -> None:
    """Classify all of it."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", TOGETHER).getOrCreate()
    if column is None:
        found = paths_of(spark, pictures)
    else:
        found = spark.read.parquet(pictures).select("path", f.col(column).alias("bytes"))
    classified(found, bundle).write.parquet(output)


if __name__ == "__main__":
    main(*sys.argv[1:])

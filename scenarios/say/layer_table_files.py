"""A table of layers as CSV and Parquet, block by block, and its summary on a terminal."""

from __future__ import annotations

import csv
from collections.abc import Generator
from itertools import repeat
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ..study.layer_table import Block, LayerTable
from .record_parquet import parquet_library
from .terminal.evaluation import print_sentence


def write_table(table: LayerTable, csv_path: Path | None, parquet_path: Path | None) -> None:
    """Walk the table's blocks once, and write each to the files asked for."""
    writers = [] if csv_path is None else [_csv(table, csv_path)]
    writers += [] if parquet_path is None else [_parquet(table, parquet_path)]
    for writer in writers:
        next(writer)
    for block in table.walk():
        for writer in writers:
            writer.send(block)
    for writer in writers:
        writer.close()


def print_layer_table(table: LayerTable, console: Console) -> None:
    """The summary of a table whose blocks have gone by."""
    print_sentence(table.sentence, console)
    for reason, count in table.refused.most_common():
        console.print(Text(f"refused ({count:,}): {reason}", style="dim"), soft_wrap=True)


def _csv(table: LayerTable, path: Path) -> Generator[None, Block, None]:
    with path.open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(table.columns)
        while True:
            block = yield
            count = len(block.tokens)
            numbers = [block.columns.get(name) for name in _numbers(table)]
            texts = [repeat("") if n is None else (f"{v:.9g}" for v in n.tolist()) for n in numbers]
            shared = [repeat(value, count) for value in block.values]
            tokens = (f"{v:.0f}" for v in block.tokens.tolist())
            lines.writerows(zip(*shared, tokens, *texts, repeat(block.refusal)))  # as many as there are tokens


def _parquet(table: LayerTable, path: Path) -> Generator[None, Block, None]:
    arrow = parquet_library()
    text, number = arrow.string(), arrow.float64()
    kinds = [*(text for _ in table.axes[:-1]), arrow.int64(), *(number for _ in _numbers(table)), text]
    schema = arrow.schema(list(zip(table.columns, kinds, strict=True)))
    with arrow.parquet.ParquetWriter(path, schema) as file:
        while True:
            block = yield
            count = len(block.tokens)
            columns = [arrow.repeat(value, count) for value in block.values]
            columns.append(arrow.array(block.tokens.astype("int64")))
            for name in _numbers(table):
                found = block.columns.get(name)
                columns.append(arrow.nulls(count, number) if found is None else arrow.array(found))
            columns.append(arrow.repeat(block.refusal, count))
            file.write_table(arrow.table(columns, schema=schema))


def _numbers(table: LayerTable) -> tuple[str, ...]:
    return table.columns[len(table.axes) : -1]

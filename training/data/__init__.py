"""Datasets: any source of rows to clean `image`, `problem`, `solution` rows, split into train, validation and test.

Doors: `dataset.load_rows` for a run, `dataset.prepare_rows` for the audit, `open_source.open_source` for a look at the
source alone, `dataset.order_by_difficulty`. Rows stream from a source through `clean_row` into `prepare`.
"""

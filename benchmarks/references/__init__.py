"""What a user could run instead, measured on the hourly examples: `python -m benchmarks.references` writes the rows.

It needs `requirements/references.txt`, which nothing else needs. Its rows are kept in `benchmarks/references.csv`, so
that `make bench NAME=accuracy` measures Tidemark beside them without it.
"""

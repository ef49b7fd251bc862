"""Measurements, each beside its reference in the same run; `python -m benchmarks [NAME]` runs them.

A benchmark is a module `benchmarks/NAME.py` with `def run(context: Context) -> list[Result]`.
"""

"""Benchmarks: NAS-Bench tables, evaluation protocols and speed runs."""

"""The proxy benchmark: how well training-free scores rank the architectures of a NAS-Bench table.

`jaxnas.benchmarks.evaluation.run.evaluate` from Python.
"""

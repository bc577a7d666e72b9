"""Implements benchmarks/on_gpu.sh; the program itself imports neither JAX nor torch.

- ``plan``: the steps in their order, with their time limits
- ``running``: runs a step in a new process, and ends it with all processes that it started
- ``wheels``: unpacks the packages that the machine lacks from a folder of wheels
- ``summary``: summarises the results in tables that are short enough for the end of a log
"""

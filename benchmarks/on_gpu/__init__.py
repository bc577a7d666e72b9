"""The program behind benchmarks/on_gpu.sh; it imports neither JAX nor torch itself.

- ``plan``: the steps in their order, with their time limits
- ``running``: runs a step in a process of its own, and ends it with all that it started
- ``wheels``: packages that the machine lacks, from a folder of wheels
- ``summary``: what the results say, in a table short enough for the end of a log
"""

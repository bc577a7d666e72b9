"""Runs both sides of benchmarks/compare.py in their own processes, which take turns.

- ``cases``: the cases to measure, and their variants
- ``inputs``: makes the same random images, labels and features for both sides
- ``jax_side``, ``torch_side``: prepare a case and return a function that runs it once
- ``worker``: the process that calls such a function on request
- ``turns``: starts the workers of a case and lets them take turns
- ``together``: several processes of one variant that run at the same time
- ``tables``: formats the results as Markdown
"""

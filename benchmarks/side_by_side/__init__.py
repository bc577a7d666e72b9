"""Both sides of benchmarks/compare.py, each in processes of its own, taking turns.

- ``cases``: what is measured, and with which variants
- ``inputs``: the same random images, labels and features for both sides
- ``jax_side``, ``torch_side``: a case -> a function that does it once
- ``worker``: the process that calls such a function when it is told to
- ``turns``: starts the workers of a case and lets them take turns
- ``tables``: the result in words
"""

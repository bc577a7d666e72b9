"""AMNet (Zhao et al., 2017): one entangled feature, and a memory that a learned layer works into it.

docs/method.md says what the sources leave open, and how it is read here.
"""

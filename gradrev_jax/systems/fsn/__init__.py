"""FashionSearchNet (Ak et al., 2018 and 2021): each attribute is read where the image shows it.

docs/method.md says what the sources leave open, and how it is read here.
"""

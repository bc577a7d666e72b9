"""A trained run in use: by Python, by words, and over HTTP."""

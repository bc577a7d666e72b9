"""Image files: their decoding, and a cache of decoded pixels."""

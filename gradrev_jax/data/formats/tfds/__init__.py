"""Data sets that TensorFlow Datasets has prepared."""

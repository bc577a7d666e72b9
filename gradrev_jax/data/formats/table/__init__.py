"""A CSV file beside a folder of images."""

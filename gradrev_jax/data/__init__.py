"""Labelled images in any format, and the queries and triplets that are made of them."""

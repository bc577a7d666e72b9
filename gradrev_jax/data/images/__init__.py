"""Decoding images, and keeping the decoded pixels on disk."""

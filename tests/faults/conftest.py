"""Leaves out of the collection what runs in a process of its own."""

collect_ignore = ["fuzz_guided.py"]

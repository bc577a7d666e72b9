"""The number of threads that divide work on the host."""

import os

NUM_WORKERS = os.cpu_count() or 1  # each has a core

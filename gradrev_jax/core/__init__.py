"""The paper as pure functions of arrays: losses, reversal, memory, manipulation and metrics."""

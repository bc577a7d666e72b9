"""Records of a run where people look at them: one module per tracker, imported only when it is asked for."""

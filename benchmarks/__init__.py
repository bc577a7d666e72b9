"""Times the package, beside other systems if there are any; every benchmark is a module with a ``main``."""

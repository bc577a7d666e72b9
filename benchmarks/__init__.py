"""Times the package, beside other systems where there are any; every benchmark is a module with a main."""

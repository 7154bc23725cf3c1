"""The compiled core: C source, compiled to the module ``core`` where there is a compiler."""

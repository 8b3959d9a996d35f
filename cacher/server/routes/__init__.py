"""The routes, by noun: each parses, calls one function of the package, and shapes its answer."""

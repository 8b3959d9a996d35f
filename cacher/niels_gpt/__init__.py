"""The chat API of niels-gpt: streams with live traces, for its checkpoints and any causal model.

``python -m cacher.niels_gpt`` serves it, and `cacher.main:app` has its routes, too.
"""

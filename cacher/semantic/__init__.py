"""Answers that are remembered by the meaning of their questions: the semantic cache."""

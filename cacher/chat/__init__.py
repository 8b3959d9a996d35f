"""Talking with a model: a conversation over one state, in a notebook or in a terminal.

``python -m cacher.chat`` is the terminal; `Conversation` is what stands behind it.
"""

from cacher.chat.conversation import Answer, Conversation

__all__ = ["Answer", "Conversation"]

"""``python -m cacher.niels_gpt``: the chat API as a server of its own."""

import sys

from cacher.niels_gpt.main import main

if __name__ == "__main__":
    sys.exit(main())

"""``python -m cacher.chat``: the command ``chat`` of the command line."""

import sys

from cacher.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main(["chat", *sys.argv[1:]]))

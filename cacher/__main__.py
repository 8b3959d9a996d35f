"""``python -m cacher``: the command line."""

from cacher.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())

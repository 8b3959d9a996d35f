"""Where states are kept: files with an index beside them, or Redis.  See `cacher.stores.base`."""

"""The application over ASGI and over a real socket."""

"""What tests of the client share with those of the server."""

from tests.server.conftest import dead_port

__all__ = ["dead_port"]

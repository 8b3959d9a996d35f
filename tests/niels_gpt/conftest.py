from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.niels_gpt.chat import Chat, Puppet, Reference, standing_in


@pytest.fixture(scope="package")
def _stage() -> Iterator[tuple[Puppet, Chat]]:
    puppet = Puppet()
    with standing_in(puppet) as chat:
        yield puppet, chat


@pytest.fixture
def puppet(_stage: tuple[Puppet, Chat]) -> Puppet:
    """The stand-in of `stage`, as new."""
    _stage[0].__init__()  # type: ignore[misc]
    return _stage[0]


@pytest.fixture
def stage(_stage: tuple[Puppet, Chat], puppet: Puppet) -> Chat:  # noqa: ARG001
    """A service whose model does as it is told."""
    return _stage[1]


@pytest.fixture(scope="package")
def small() -> Iterator[Chat]:
    """A service of the small model."""
    with standing_in(Reference(1)) as chat:
        yield chat

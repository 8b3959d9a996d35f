"""The rules of the source tree, as ``make lint`` checks them."""

from tools.check_layers import breaches


def test_layers_budgets_tests_and_headers_are_in_order() -> None:
    assert breaches() == []

"""Where a service is reached from its own machine."""

import pytest

from app.system import address


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("192.0.2.7", "http://192.0.2.7:8000"),
        ("localhost", "http://localhost:8000"),
        ("::", "http://[::1]:8000"),
        ("2001:db8::7", "http://[2001:db8::7]:8000"),
    ],
)
def test_a_service_that_listens_everywhere_is_near(host: str, url: str) -> None:
    assert address.url("http", address.near(host), 8000) == url

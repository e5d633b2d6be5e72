"""Where a service that listens somewhere is reached from its own machine."""

_NEAR = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- where one listens, and where one asks then


def near(host: str) -> str:
    """The address to ask for a service that listens on `host`, which may mean every address."""
    return _NEAR.get(host, host)


def url(scheme: str, host: str, port: int) -> str:
    """As in http://127.0.0.1:8000, without a path."""
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

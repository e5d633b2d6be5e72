"""What a trusted proxy says: X-Forwarded-For where it is an address, and, for http/prefix.py, X-Forwarded-Prefix."""

from ipaddress import ip_address

from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware, _TrustedHosts

from app.http.prefix import Prefix

_LONGEST = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")


class _Proxies(_TrustedHosts):
    """What they name and is no address is nobody's: the client then is the proxy."""

    def get_trusted_client_address(self, x_forwarded_for: str) -> tuple[str, int]:
        host, port = super().get_trusted_client_address(x_forwarded_for)
        if len(host) > _LONGEST or "%" in host:  # a zone may be any text
            return "", 0
        try:
            return str(ip_address(host)), port
        except ValueError:
            return "", 0


def behind(proxies: list[str] | str, application: ASGIApp, root_path: str = "") -> ASGIApp:
    """The application, which sees the clients of these proxies as its own. `proxies` as in FORWARDED_ALLOW_IPS.

    `root_path`: below which path clients see it where no proxy says so.
    """
    middleware = ProxyHeadersMiddleware(application)  # type: ignore[arg-type]
    middleware.trusted_hosts = trusted = _Proxies(proxies)
    return Prefix(middleware, root_path, trusted)  # type: ignore[arg-type]

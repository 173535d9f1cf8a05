"""The door: the address that the server listens on, and the token that opens it."""

from __future__ import annotations

import contextlib
import ipaddress
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

from understudy.errors import UsageError
from understudy.project.folder import write_private

LOOPBACK = "127.0.0.1"
TOKEN_FILE = "serve.token"  # noqa: S105  (the name of the file)
SHORTEST = 16
"""Characters of a token at the least."""
MOST_WAITING = 2048
"""Connections that may wait to be accepted; systems cut it to what they allow."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where the server listens, and the token that opens it."""

    host: str
    port: int
    token: str = field(repr=False)

    @property
    def url(self) -> str:
        """The base URL, as an SDK wants it."""
        host = LOOPBACK if _is_any(self.host) else self.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/v1"

    def names(self, host: str) -> bool:
        """True if that Host header means this server, to the port.

        A page that had its own name pointed at this machine sends that name. Where the server
        listens on every address, any address is taken, and this machine's own name.
        """
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        if not port.isdecimal():
            name, port = host, "80"
        if port != str(self.port):
            return False
        if name.lower() in (self.host.lower(), "localhost", f"[{self.host.lower()}]"):
            return True
        if not _is_any(self.host):
            return False
        return _is_address(name) or name.lower() == socket.gethostname().lower()


def _is_any(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104  (compared, not bound)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def check_address(host: str, token: str | None, *, without_tls: bool) -> None:
    """Refuse what would open more than was asked for.

    Raises UsageError for an address beyond this machine, unless a token was given and it is known
    that nothing is encrypted; and for a token that is none.
    """
    if token is not None and not (len(token) >= SHORTEST and token.isascii() and _plain(token)):
        raise UsageError(
            f"a token has {SHORTEST} characters or more, none of them a space",
            "Without one, `serve` makes one and keeps it in the project",
        )
    if _is_loopback(host):
        return
    if token is None:
        raise UsageError(
            f"{host} can be reached from other machines, and no token was given",
            "Set UNDERSTUDY_TOKEN, or stay on 127.0.0.1",
        )
    if not without_tls:
        raise UsageError(
            f"on {host} token, questions and answers go over the network unencrypted",
            "Put a proxy with TLS in front of 127.0.0.1, or say --without-tls",
        )


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is any free one. Raises UsageError if it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(MOST_WAITING)
    except (OSError, UnicodeError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or str(error)
        raise UsageError(
            f"cannot listen on {host} port {port}: {why}",
            "Choose another with --port; 0 takes any free one",
        ) from None
    return listener


def kept_token(folder: Path) -> str:
    """The project's own token, made at the first time; a restart keeps it. Raises DiskError."""
    path = folder / TOKEN_FILE
    with contextlib.suppress(FileNotFoundError):
        token = path.read_text(encoding="ascii", errors="replace").strip()
        if len(token) >= SHORTEST and token.isascii() and _plain(token):
            path.chmod(0o600)
            return token
    token = secrets.token_urlsafe(32)
    write_private(path, token + "\n")
    return token


def _plain(token: str) -> bool:
    return token.isprintable() and " " not in token


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

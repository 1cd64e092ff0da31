"""The TLS of the server, from its two files."""

from __future__ import annotations

import ssl
from pathlib import Path


def tls_context(certfile: Path, keyfile: Path) -> ssl.SSLContext:
    """What connections are wrapped with. Raises ValueError, which names the option at fault."""
    try:
        ssl.create_default_context(cafile=certfile)
    except ssl.SSLError:
        raise ValueError(f"certfile holds no PEM certificate: {certfile}") from None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            fault = f"keyfile is not the key of the certificate: {keyfile}"
        elif not error.reason:  # OpenSSL says no more than "PEM lib"
            fault = f"keyfile holds no PEM private key: {keyfile}"
        else:
            fault = f"certfile cannot be used: {error.reason.lower().replace('_', ' ')}"
        raise ValueError(fault) from None
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _no_password() -> str:
    # Without this OpenSSL would ask the terminal, and a service would wait for ever.
    raise ValueError("keyfile is encrypted: decrypt it first (openssl pkey -in KEY -out PLAIN)")

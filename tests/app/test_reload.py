"""SIGHUP: files are read anew, all of them or none; the server goes on."""

from __future__ import annotations

import os
import signal
import ssl
from functools import partial
from pathlib import Path

import jwt
import pytest
import trio

from tests.app.certificate import make_certificate
from triode.app.config.settings import Settings
from triode.app.serve import serve
from triode.app.service.triode import Triode
from triode.limits.principal import TokenRefused

OLD, NEW = "o" * 32, "n" * 32


async def certificate_of(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port, ssl_context=context)
    async with stream:
        await stream.do_handshake()
        shown: bytes = stream.getpeercert(binary_form=True)
        return shown


def holds(triode: Triode, secret: str) -> bool:
    """Whether tokens that this secret signed are believed."""
    token = jwt.encode({"sub": "ann", "exp": 4e9}, secret, algorithm="HS256")
    assert triode.gate.jwt is not None
    try:
        return triode.gate.jwt(token, 0.0) is not None
    except TokenRefused:
        return False


async def test_certificate_and_keys_are_read_anew_or_stay(
    tmp_path: Path, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="triode")
    pem, key = tmp_path / "tls.pem", tmp_path / "jwt.key"
    make_certificate(pem)
    key.write_text(f"hs256:{OLD}")
    settings = Settings(port=0, certfile=pem, keyfile=pem, jwt_key=str(key))
    triode = Triode(settings)
    addresses = await nursery.start(partial(serve, settings, triode=triode))
    port = addresses[0][1]
    first = await certificate_of(port)
    assert holds(triode, OLD)

    async def hang_up(said: str) -> None:
        caplog.clear()
        os.kill(os.getpid(), signal.SIGHUP)
        with trio.fail_after(5):
            while said not in caplog.text:  # noqa: ASYNC110 # a log has no event
                await trio.sleep(0.01)

    key.write_text(f"hs256:{NEW}")
    pem.write_text("no certificate")
    await hang_up("everything stays as it was")
    assert holds(triode, OLD)
    assert await certificate_of(port) == first

    make_certificate(pem)
    await hang_up("read anew")
    assert holds(triode, NEW)
    assert not holds(triode, OLD)
    assert await certificate_of(port) != first
    nursery.cancel_scope.cancel()

"""Asking somebody else's HTTP server: a webhook, a gate hook.

Whatever it does, it costs us no more than a deadline and some bytes: it may be away, never answer,
answer drop by drop, or with a hundred megabytes. No redirect is followed: the operator names where
requests go, and what is asked may be secret.

Sources: RFC 9110; httpx.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import httpx
import trio

MOST_BYTES: Final = 64 * 1024
# Of one step of a request; each request as a whole has a deadline of its own.
LONGEST_S: Final = 60.0


class NoAnswer(Exception):
    """There was no whole answer in time. `str` says why, without the address: it may hold a
    secret.
    """


class Answer(NamedTuple):
    """What a server said: `Answer(200, Headers({"cache-control": …}), b'{"allow":true}')`."""

    status: int
    headers: httpx.Headers
    body: bytes


@asynccontextmanager
async def open_pool(most: int) -> AsyncGenerator[httpx.AsyncClient]:
    """One pool of at most `most` connections, which are kept for the next request."""
    limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
    # No proxy or netrc of the environment: the operator names all there is.
    async with httpx.AsyncClient(limits=limits, timeout=LONGEST_S, trust_env=False) as pool:
        yield pool


async def ask(
    pool: httpx.AsyncClient,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    deadline_s: float,
    most_bytes: int = MOST_BYTES,
) -> Answer:
    """POST `body`; the whole answer, whatever its status. Raises `NoAnswer` when there is none
    within `deadline_s`, or it is larger than `most_bytes`. Cancelled, the server may have been
    asked or not.
    """
    # Compressed, a few bytes may stand for megabytes.
    sent = {**headers, "Accept-Encoding": "identity"}
    try:
        with trio.fail_after(deadline_s):
            async with pool.stream("POST", url, content=body, headers=sent) as response:
                if "content-encoding" in response.headers:
                    raise NoAnswer("the answer is compressed, which was not asked for")
                taken = bytearray()
                async for chunk in response.aiter_raw():
                    taken += chunk
                    if len(taken) > most_bytes:
                        raise NoAnswer(f"the answer is larger than {most_bytes} bytes")
                return Answer(response.status_code, response.headers, bytes(taken))
    except trio.TooSlowError:
        raise NoAnswer(f"no answer within {deadline_s:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NoAnswer(_reason(error)) from None


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError):
        return "it cannot be reached"
    if isinstance(error, httpx.InvalidURL):
        return "the address is none"
    return f"the connection broke ({type(error).__name__})"

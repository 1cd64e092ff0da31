"""The gate: who is asking, what may they do, and is there room for them.

Identity comes from a valid token and from nothing else. A request that shows no token is
anonymous: with auth off that is full rights (the server then listens on loopback only, or was
told `--insecure`), with auth on it is what `anonymous_read` allows, usually nothing. A token that
is shown and is not valid is refused, never taken for anonymous.
"""

from __future__ import annotations

import logging
import math
import random
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from triode.app.access.jwt_verifier import jwt_verifier
from triode.app.access.origin import Origins
from triode.app.access.per_address import Shares
from triode.app.runtime.log_once import LogOnce
from triode.app.wire.refusal import Refusal, forbidden, unauthorized
from triode.limits.address import Networks, client_ip, ip_key
from triode.limits.admission import Admission, ClientTicket, Full
from triode.limits.cpu_share import CpuShares
from triode.limits.grant import FULL, Grant
from triode.limits.principal import (
    Check,
    Principal,
    TokenRefused,
    anonymous,
    authenticate,
    credentials,
    token_check,
)
from triode.limits.rate import Buckets, Verdict, rate_headers
from triode.limits.returning import Returning
from triode.limits.token import Tokens
from triode.store.filter import covers, parse_filter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from triode.app.config.settings import Settings
    from triode.app.config.socket_route import SocketRoute
    from triode.app.delivery.subscriber import Client
    from triode.app.net.request_head import Head
    from triode.app.runtime.clock import Clock
    from triode.app.runtime.metrics import Metrics

log = logging.getLogger("triode")

# A full house empties at its own pace: newcomers are told to come back spread over this window.
FULL_RETRY_S: Final = 5
# Any of these says that a request came through a proxy.
PROXY_FIELDS: Final = ("x-forwarded-for", "forwarded", "x-real-ip", "via")


Authorize: TypeAlias = "Callable[[Head], Awaitable[Principal | Refusal]]"


class Gate:
    """Identity, rights, rates and places of one server."""

    def __init__(
        self,
        settings: Settings,
        tokens: Tokens,
        metrics: Metrics,
        clock: Clock,
        authorize: Authorize | None = None,
    ) -> None:
        """`authorize`: the host application decides who asks, in place of tokens."""
        self.settings = settings
        self.authorize = authorize
        self.tokens = tokens
        self.metrics = metrics
        self.clock = clock
        self.jwt = jwt_verifier(settings)
        self.trusted = Networks(settings.trusted_proxies)
        self.control = Networks(settings.control_from)
        self.origins = Origins(settings, self.trusted, needs_token=self.needs_token)
        self._unbelieved = LogOnce(
            log,
            "%s sends X-Forwarded-For and is no trusted proxy: the limits of all its clients "
            "are its own; if it is your proxy, name it with --trusted-proxies",
        )
        self.http_rates = Buckets(settings.http_rate)
        self.ws_rates = Buckets(settings.ws_rate)
        self.route_rates: dict[str, Buckets] = {}
        self.cpu = CpuShares(settings.cpu_share_s)
        self.returning = Returning()
        self.shares = Shares(settings, self.trusted)
        self.admission = Admission()
        self._bound(settings)
        self._anonymous = self._anonymous_grant()

    def read(self, settings: Settings) -> Callable[[], None]:
        """Read what changed settings say, and the keys of JWTs anew; what puts them in force for
        all that is checked from then on. Raises ValueError.
        """
        verifier = jwt_verifier(settings)

        def put() -> None:
            self.settings = settings
            self.jwt = verifier
            self._bound(settings)
            self.http_rates.set_rate(settings.http_rate)
            self.ws_rates.set_rate(settings.ws_rate)
            for route in settings.sockets:
                self.rates_of(route).set_rate(route.rate)
            self.cpu.set_share(settings.cpu_share_s)

        return put

    def _bound(self, settings: Settings) -> None:
        """How many there may be. It holds for those who come."""
        self.shares.set_bounds(settings)
        admission = self.admission
        admission.total = settings.max_clients
        admission.per_ip = self.shares.clients.bound
        admission.per_principal = settings.max_clients_per_token
        admission.heads = settings.max_heads
        admission.http = settings.max_http
        admission.http_per_ip = self.shares.http.bound

    @property
    def needs_token(self) -> bool:
        """Whether anybody is asked who he is, by tokens or by the host application."""
        return self.settings.auth or self.authorize is not None

    def _anonymous_grant(self) -> Grant | None:
        """What who shows no token may do; None: one is needed."""
        if not self.settings.auth:
            return FULL
        read = list(self.settings.anonymous_read)
        if not read:
            return None
        return Grant.from_json({"read": read}, check=parse_filter)

    # ── who ─────────────────────────────────────────────────────────────────────────────────────

    def identify(self, head: Head) -> Principal:
        """Who is asking. Raises `Refusal` 401 when a token was shown and none shown is valid, or
        when one is needed.
        """
        shown = credentials(head.get, head.params)
        if shown:
            try:
                principal = authenticate(shown, self._checks(self.clock.unix_s()))
            except TokenRefused as refused:
                raise unauthorized(refused.detail, error=refused.error) from refused
            if principal is not None:
                return principal
        if self._anonymous is None:
            raise unauthorized("a token is needed: send Authorization: Bearer TOKEN")
        return anonymous(self.address(head), self._anonymous)

    def _neighbour(self, head: Head) -> Principal | None:
        """Who may use the control API by address alone, for a request that shows no token.

        What a proxy nobody vouches for passes on is not from where it seems to be.
        """
        if credentials(head.get, head.params):
            return None
        hops = [name for name in PROXY_FIELDS if head.get(name) is not None]
        vouched = hops == ["x-forwarded-for"] and self.trusted.contains(head.peer)
        address = self.address(head)
        if (hops and not vouched) or not self.control.contains(address):
            return None
        return Principal(key=ip_key(address), name="control", grant=FULL)

    def principal_of(self, token: str) -> Principal:
        """Whose token this is. Raises `TokenRefused`."""
        principal = authenticate([token], self._checks(self.clock.unix_s()))
        assert principal is not None
        return principal

    def still_holds(self, principal: Principal) -> bool:
        """Whether the token behind a living connection has neither ended nor been revoked."""
        now = self.clock.unix_s()
        if principal.expires_at is not None and principal.expires_at <= now:
            return False
        return principal.token_id is None or self.tokens.get(principal.token_id, now) is not None

    def _checks(self, now: float) -> list[Check]:
        checks: list[Check] = [token_check(self.tokens, now)]
        if self.jwt is not None:
            verify = self.jwt
            checks.append(lambda text: verify(text, now))
        return checks

    def address(self, head: Head) -> str:
        """The address that counts for limits: the peer's, or what a trusted proxy says of it. No
        port.
        """
        forwarded = head.get("x-forwarded-for")
        if forwarded is not None and not self.trusted:
            self._unbelieved.warn(head.peer)
        return client_ip(head.peer, forwarded, self.trusted)

    # ── what ────────────────────────────────────────────────────────────────────────────────────

    def require_read(self, principal: Principal, filter_text: str) -> None:
        """Raises `Refusal` 403 unless everything the filter can select is granted."""
        if not principal.grant.may_read(filter_text, covers):
            raise forbidden(f"this token may not read {filter_text}", filter=filter_text)

    def require_room(self, principal: Principal, room: str) -> None:
        """Raises `Refusal` 403 unless the room is granted."""
        if not principal.grant.may_room(room):
            raise forbidden(f"this token may not use the room {room}", room=room)

    def require_admin(self, principal: Principal) -> None:
        """Raises `Refusal` 403, or 401 for a stranger, unless the principal is an admin."""
        if not principal.grant.admin:
            raise _lacks(principal, "this needs a token with admin rights")

    def require_metrics(self, principal: Principal) -> None:
        """Raises `Refusal` 403, or 401 for a stranger, unless it may read `/metrics`."""
        if not principal.grant.may_read_metrics:
            raise _lacks(principal, "this needs a token with the grant metrics, or admin rights")

    # ── how much ────────────────────────────────────────────────────────────────────────────────

    async def visit(
        self, head: Head, *, control: bool = False, returns: bool = False
    ) -> tuple[Principal, dict[str, str]]:
        """Who asks, with one request counted; the fields to answer with. Raises `Refusal` 401, 429,
        and what the host application says.

        Whoever shows a bad token is counted too, by address: guessing is no faster than asking.
        `control`: for the control API an address may do instead of a token (`control_from`).
        `returns`: a stream goes on with it; after a restart that is not counted.
        """
        neighbour = self._neighbour(head) if control else None
        try:
            if self.authorize is not None:
                principal = await self._ask_host(self.authorize, head)
            else:
                principal = neighbour or self.identify(head)
        except Refusal:
            self._charge(ip_key(self.address(head)))
            raise
        fields = self.check_rate(head, principal, returns=returns)
        # Most have never caused work that is charged.
        if principal.key in self.cpu.marks:
            self.check_share(principal, fields)
        return principal, fields

    async def _ask_host(self, authorize: Authorize, head: Head) -> Principal:
        """What the host application says of a request. Raises `Refusal`: its own, and 500 or 503
        when it fails or takes too long: what is not granted is denied.
        """
        try:
            with trio.fail_after(self.settings.head_deadline_s):
                said: object = await authorize(head)
        except Refusal:
            raise
        except trio.TooSlowError:
            raise Refusal(
                503,
                "it takes too long to find out who asks; try again later",
                headers={"Retry-After": str(FULL_RETRY_S)},
            ) from None
        except Exception as error:
            log.exception("authorize failed for %s %s", head.method, head.path, exc_info=error)
            raise Refusal(500, "the server failed to find out who asks; it is logged") from error
        if isinstance(said, Refusal):
            raise said
        if not isinstance(said, Principal):
            log.error("authorize must give a Principal or a Refusal, not %s", type(said).__name__)
            raise Refusal(500, "the server failed to find out who asks; it is logged")
        return said

    def check_rate(
        self, head: Head, principal: Principal, *, returns: bool = False
    ) -> dict[str, str]:
        """Count one HTTP request, as `visit` does. The rate fields to answer with; raises
        `Refusal` 429 when there were too many.
        """
        key = principal.key or ip_key(self.address(head))
        is_free = returns and self.returning.take(key, trio.current_time())
        return self._charge(key, 0.0 if is_free else 1.0)

    def _charge(self, key: str, cost: float = 1.0) -> dict[str, str]:
        verdict = self.http_rates.take(key, trio.current_time(), cost)
        fields = rate_headers(verdict, jitter=random.random())
        if not verdict.allowed:
            raise self._too_many(verdict, fields)
        return fields

    def check_share(self, principal: Principal, fields: dict[str, str] | None = None) -> None:
        """Raises `Refusal` 429 while somebody has caused more work than its share."""
        wait_s = self.cpu.wait_s(principal.key, trio.current_time())
        if not wait_s:
            return
        self.metrics.over_share += 1
        retry_s = math.ceil(wait_s) + random.randrange(FULL_RETRY_S)
        allowed_s = self.settings.cpu_share_s
        raise Refusal(
            429,
            f"what you have asked for took too much of the server's time: {allowed_s:g} s of a "
            f"minute are allowed; retry in {retry_s} s",
            extra={"retry_after": retry_s, "limit": allowed_s},
            headers={**(fields or {}), "Retry-After": str(retry_s)},
            close=4429,
        )

    def charge_work(self, principal: Principal, steps: float) -> None:
        """Somebody has caused so much work. What is done within a moment is not counted: the rates
        bound it.
        """
        if principal.key:
            self.cpu.charge(principal.key, steps, trio.current_time())

    def rates_of(self, route: SocketRoute | None) -> Buckets:
        """The rates of the commands of a route's clients."""
        if route is None:
            return self.ws_rates
        rates = self.route_rates.get(route.path)
        if rates is None:
            rates = self.route_rates[route.path] = Buckets(route.rate)
        return rates

    def check_command(self, client: Client) -> None:
        """Count one command of a WebSocket client. Raises `Refusal` 429 for one too many, and for
        who has had more than its share.
        """
        # Most have never caused work that is charged.
        if client.principal.key in self.cpu.marks:
            self.check_share(client.principal)
        now = trio.current_time()
        rates = client.rates
        if rates is None or rates.allow(client.id, now):
            return
        verdict = rates.take(client.id, now, 0)
        wait_s = rates.retry_after_s(client.id, now)
        raise self._too_many(verdict._replace(allowed=False, retry_after_s=wait_s), {})

    def sweep(self, now: float) -> None:
        """Forget who has been idle for long. `now` is Trio's time."""
        for rates in (self.http_rates, self.ws_rates, *self.route_rates.values()):
            rates.sweep(now)
        self.cpu.sweep(now)

    def _too_many(self, verdict: Verdict, fields: dict[str, str]) -> Refusal:
        self.metrics.rate_limited += 1
        rate = verdict.rate
        # Over HTTP there are whole seconds, spread; words, member and field say the same.
        field = fields.get("Retry-After")
        wait_s = int(field) if field else max(0.001, round(verdict.retry_after_s, 3))
        per_s = f"{rate.rps:g} a second, {rate.burst} at once" if rate is not None else "none"
        return Refusal(
            429,
            f"too many requests; allowed are {per_s}; retry in {wait_s:g} s",
            extra={"retry_after": wait_s, "limit": verdict.limit},
            headers=fields,
            close=4429,
        )

    def admit(self, ip: str, principal: Principal) -> ClientTicket:
        """Take a place for one client. Raises `Refusal` 503 with a jittered `Retry-After` when
        there is none.
        """
        try:
            known = None if principal.source == "anonymous" else principal.key
            return self.admission.enter(self.shares.clients.key(ip), known)
        except Full as full:
            raise self.no_place(full) from full

    def no_place(self, full: Full) -> Refusal:
        """503 with a jittered `Retry-After`."""
        retry_s = 1 + random.randrange(FULL_RETRY_S)
        advice = ""
        if full.which == "per_ip":
            advice = "; all of one address are counted together, see max_clients_per_ip"
        return Refusal(
            503,
            f"no place is free ({full.which}: {full.limit}); retry in {retry_s} s{advice}",
            extra={"limit": full.limit, "retry_after": retry_s, "which": full.which},
            headers={"Retry-After": str(retry_s)},
            close=1013,
        )


def _lacks(principal: Principal, words: str) -> Refusal:
    """401 for a stranger, who may come back with a token."""
    return unauthorized(words) if principal.source == "anonymous" else forbidden(words)

"""What a journal has to know of the Triode that it carries writes out on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from triode.app.access.gate import Gate
    from triode.app.config.settings import Settings
    from triode.app.delivery.hub import Hub
    from triode.app.runtime.clock import Clock
    from triode.app.runtime.metrics import Metrics
    from triode.app.wire.refusal import Refusal
    from triode.limits.meter import Meter
    from triode.limits.principal import Principal
    from triode.store.change import Position
    from triode.store.json_type import Json
    from triode.store.operation import Operation
    from triode.store.store import Prepared, Store
    from triode.store.work import TooCostly, Work


class Applier(Protocol):
    """What a journal applies its writes to: `Triode`, which has one."""

    settings: Settings
    metrics: Metrics
    clock: Clock
    store: Store
    hub: Hub
    gate: Gate
    version: str
    listens: str
    draining: bool

    def going_away(self) -> Refusal:
        """The answer while it ends."""

    def prepare(self, op: Operation, principal: Principal, work: Work) -> Prepared:
        """Raises `Refusal` and `TooCostly`."""

    def prepare_long(self, op: Operation, principal: Principal, meter: Meter) -> Prepared:
        """As `prepare`."""

    async def refuse_cost(
        self, op: Operation, principal: Principal, root: Json, error: TooCostly
    ) -> Refusal:
        """The answer to what is too costly."""

    def record_kept(self, name: str, value: dict[str, Any] | None) -> None:
        """A record of the server's is another one from now on."""

    def commit(self, prepared: Prepared, time_ms: int) -> Position:
        """Do it, and tell those who watch."""

"""The running server, as packages that import one way; see `docs/design.md`.

This package is also the ASGI application that `TRIODE_*` and `triode.toml` configure. Installed it
is `hypercorn -k trio triode:app`, in a checkout `hypercorn -k trio app:app`.
"""

from __future__ import annotations

import logging
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quart_trio import QuartTrio


class Application:
    """The application, made when it is first needed: importing this package alone loads nothing
    and reads no settings.
    """

    def __init__(self) -> None:
        self._made: QuartTrio | None = None

    def make(self) -> QuartTrio:
        """The Quart-Trio application. Raises `triode.app.config.loading.Faults` for a wrong
        configuration, at the first call.
        """
        if self._made is None:
            from triode.app.application import create_app
            from triode.app.config.loading import load_here
            from triode.app.config.validation import warnings
            from triode.app.service.reload import Reload
            from triode.app.service.triode import Triode

            settings = load_here()
            for warning in warnings(settings):  # `triode serve` shows them beside its address
                logging.getLogger("triode").warning("%s", warning)
            triode = Triode(settings)
            triode.on_hangup = Reload(triode, load_here).on_hangup
            self._made = create_app(triode)
        return self._made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.make(), name)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        fault = self._fault() if self._made is None else None
        if fault is None:
            await self.make()(scope, receive, send)
        elif scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": fault})
        else:
            raise RuntimeError(fault)

    def _fault(self) -> str | None:
        """Why it cannot be served. Servers show of an exception at the start nothing or all."""
        import trio

        from triode.app.config.loading import Faults

        if not trio.lowlevel.in_trio_run():
            return "Triode runs on Trio: hypercorn -k trio triode:app, or triode serve"
        try:
            self.make()
        except Faults as faults:
            return f"Triode is configured wrongly: {'; '.join(faults.faults)}"
        return None


app = Application()


class _Package(ModuleType):
    """`triode:app` names this package, not the object in it: so the package can be called too."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)


sys.modules[__name__].__class__ = _Package

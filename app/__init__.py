"""The running server. `app:app` is the ASGI application, configured by `TRIODE_*` and
`triode.toml`:

hypercorn -k trio app:app
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quart_trio import QuartTrio


class Application:
    """The application, made when it is first needed: importing `app` alone loads nothing and
    reads no settings.
    """

    def __init__(self) -> None:
        self._made: QuartTrio | None = None

    def make(self) -> QuartTrio:
        """The Quart-Trio application. Raises `app.settings.Faults` for a wrong configuration, at
        the first call.
        """
        if self._made is None:
            from app.application import create_app
            from app.settings import load_here

            self._made = create_app(load_here())
        return self._made

    def __getattr__(self, name: str) -> Any:
        return getattr(self.make(), name)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.make()(scope, receive, send)


app = Application()

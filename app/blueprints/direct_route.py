"""Direct routes, answered without Quart's dispatch: for an application that is all ours.

Quart's contexts, signals, hooks and routing, and the nursery with two tasks that Quart-Trio opens
for each request, took most of the time of a small write. A route that needs none of them is a
function of its visit (`Gated.direct`), and here are the same steps around it that `gated` and
`errors.guard` put around it under Quart: arrive, the route or the answer for what it raised,
depart. The response is Quart's own, so both ways give the same bytes (a test holds it).

An embedding application has hooks of its own, which must not be passed by: it always has Quart's
dispatch (`Triode.attach` alone), and so has ours while hooks for all requests are added to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from triode.app.blueprints.errors import answer
from triode.app.blueprints.gated import Gated, View, Visit, arrive, depart

# The extension of our application that holds them.
DIRECT: Final = "triode_direct"

if TYPE_CHECKING:
    from quart_trio import QuartTrio
    from quart_trio.wrappers import TrioResponse as Response

    from triode.app.net.request_head import Head
    from triode.app.service.triode import Triode


class DirectRoute:
    """A view with what comes before and after it."""

    def __init__(self, triode: Triode, path: str, view: View, *, control: bool = False) -> None:
        self._triode = triode
        self._path = path
        self._view = view
        self._control = control

    async def answer(self, head: Head, body: bytes) -> Response:
        """The answer to a request, also when it is a refusal. Quart's contexts are not there."""
        self._triode.metrics.http_requests += 1
        seen: Visit | None = None
        try:
            seen = await arrive(self._triode, head, body, self._path, control=self._control)
            response = await self._view(seen)
        except Exception as error:
            response = answer(self._triode, error, head)
        depart(self._triode, head, seen, response)
        return response


class DirectRoutes:
    """The direct routes of an application."""

    def __init__(self, app: QuartTrio) -> None:
        """Of the blueprints that are registered now, without a prefix."""
        self._app = app
        self._routes = {
            key: DirectRoute(blueprint.triode, key[1], view, control=blueprint.control)
            for blueprint in app.blueprints.values()
            if isinstance(blueprint, Gated)
            for key, view in blueprint.direct_routes.items()
        }

    def find(self, method: str, path: str) -> DirectRoute | None:
        """The route; None when there is none, or Quart has to serve it."""
        route = self._routes.get((method, path))
        return None if route is None or self._has_hooks() else route

    def _has_hooks(self) -> bool:
        app = self._app  # the hooks of all requests are listed under None
        return bool(
            app.before_request_funcs.get(None)
            or app.after_request_funcs.get(None)
            or app.teardown_request_funcs.get(None)
        )

"""Triode: one JSON document that thousands watch live.

`triode.app` is the ASGI application (`hypercorn -k trio triode:app`), configured by `TRIODE_*` and
`triode.toml`. To embed Triode, make a `Triode` from `Settings`, and `create_app` or `attach` it.

Importing `triode` loads nothing: each name is loaded when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from triode.app.application import attach, create_app
    from triode.app.config.settings import Settings
    from triode.app.service.execute import execute
    from triode.app.service.triode import Triode
    from triode.app.wire.refusal import Refusal
    from triode.limits.grant import Grant
    from triode.limits.principal import Principal
    from triode.store.operation import (
        Append,
        Batch,
        Delete,
        Increment,
        Merge,
        Operation,
        Patch,
        Set,
    )
    from triode.store.path import format_path
    from triode.store.value import MISSING

    __version__: str

__all__ = [
    "MISSING",
    "Append",
    "Batch",
    "Delete",
    "Grant",
    "Increment",
    "Merge",
    "Operation",
    "Patch",
    "Principal",
    "Refusal",
    "Set",
    "Settings",
    "Triode",
    "__version__",
    "app",
    "attach",
    "create_app",
    "execute",
    "format_path",
]

# Hypercorn looks for `app` in the module's dictionary, so the package has to be there from the
# start. It is light: it loads the server when it is first called.
app = import_module("triode.app")

_HOMES = {
    "Settings": "app.config.settings",
    "Triode": "app.service.triode",
    "attach": "app.application",
    "create_app": "app.application",
    "execute": "app.service.execute",
    "Refusal": "app.wire.refusal",
    "Grant": "limits.grant",
    "Principal": "limits.principal",
    "MISSING": "store.value",
    "format_path": "store.path",
    **dict.fromkeys(
        ("Append", "Batch", "Delete", "Increment", "Merge", "Operation", "Patch", "Set"),
        "store.operation",
    ),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("triode.app.runtime.build").version()
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'triode' has no attribute {name!r}")
    return getattr(import_module(f"triode.{home}"), name)

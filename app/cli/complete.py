"""Completion: `triode completion SHELL`, and paths completed from the living document."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import click
import httpx
import msgspec
import trio
from click.shell_completion import CompletionItem, get_completion_class

from triode.app.cli import DEFAULT_URL
from triode.store.path import PathError, format_path, parse_path

# Nobody waits longer for a Tab, and nobody reads more proposals; a value larger than this is not
# fetched to its end only to learn its keys.
PATIENCE_S: Final = 1.0
MOST_BYTES: Final = 4_000_000
MOST_ITEMS: Final = 200

_WHERE: Final = {
    "bash": 'add to ~/.bashrc:  eval "$(triode completion bash)"',
    "zsh": 'add to ~/.zshrc:  eval "$(triode completion zsh)"',
    "fish": "triode completion fish > ~/.config/fish/completions/triode.fish",
}


@click.command(
    short_help="Print the completion script of a shell.",
    epilog="\b\n" + "\n".join(f"{shell}: {how}" for shell, how in _WHERE.items()),
)
@click.argument("shell", type=click.Choice(sorted(_WHERE)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands, options and, from the server, paths in SHELL."""
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these shells"
    program = "triode"
    click.echo(kind(ctx.find_root().command, {}, program, "_TRIODE_COMPLETE").source())


def complete_filter(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Paths that begin with what was typed; none when the server does not tell in time."""
    parent = _parent(incomplete)
    if parent is None:
        return []
    value = trio.run(
        _fetch,
        ctx.params.get("url") or os.environ.get("TRIODE_URL") or DEFAULT_URL,
        ctx.params.get("token") or os.environ.get("TRIODE_TOKEN"),
        parent,
        (ctx.find_root().obj or {}).get("transport"),
    )
    found = (text for text in _below(parent, value) if text.startswith(incomplete))
    return [CompletionItem(text) for text in islice(found, MOST_ITEMS)]


def _parent(incomplete: str) -> str | None:
    """The path whose members are proposed; None where the text so far is not one."""
    cut = max(incomplete.rfind("."), incomplete.rfind("["))
    parent = incomplete[: max(cut, 0)] or "."
    try:
        parse_path(parent)
    except PathError:
        return None
    return parent


def _below(parent: str, value: Any) -> Iterator[str]:
    path = parse_path(parent)
    if isinstance(value, dict):
        yield from (format_path((*path, name)) for name in value)
    elif isinstance(value, list):
        yield from (format_path((*path, index)) for index in range(len(value)))


async def _fetch(
    url: str, token: str | None, path: str, transport: httpx.AsyncBaseTransport | None
) -> Any:
    """The value at a path; None when it does not come, whole and in time."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    data = bytearray()
    await trio.lowlevel.checkpoint()
    with trio.move_on_after(PATIENCE_S):
        try:
            async with (
                httpx.AsyncClient(base_url=url, headers=headers, transport=transport) as client,
                client.stream("GET", "/store", params={"path": path}) as response,
            ):
                async for chunk in response.aiter_bytes():
                    data += chunk
                    if len(data) > MOST_BYTES:
                        return None
                return msgspec.json.decode(data) if response.is_success else None
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.DecodeError):
            pass
    return None

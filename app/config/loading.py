"""Where settings come from: `triode.toml`, the environment, the command line, each over the one
before. All that is wrong is told at once.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from triode.app.config.option import Option
from triode.app.config.settings import OPTIONS, Settings
from triode.app.config.tables import KINDS, tables
from triode.app.config.validation import contradictions
from triode.limits.known import did_you_mean

CONFIG_NAME: Final = "triode.toml"
_NAMES: Final = {field_name: name for name, (field_name, _) in OPTIONS.items()}

# Not options of the server: the command line's, the tests', and where the file is.
_OTHER_VARIABLES: Final = frozenset({"TRIODE_URL", "TRIODE_TOKEN", "TRIODE_CASES", "TRIODE_CONFIG"})
# Kubernetes sets these for a service that is called "triode"; they are nobody's mistake.
_SERVICE_LINK = re.compile(r"TRIODE_(SERVICE_.*|PORT_\d.*)")


class Faults(ValueError):
    """All that is wrong with a configuration.

    `.faults` has one sentence for each: where it is, what is wrong, what to do.
    """

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    toml: str | None = None,
    *,
    toml_name: str = CONFIG_NAME,
    data: Path | None = None,
) -> Settings:
    """Settings from all layers.

    `flags` has public or field names; None was not given. An empty variable counts as not set.
    `toml` is the text of the file (None: no file), `toml_name` names it in faults. `data` is where
    the document is kept if no layer says it; not that of a demo, which would then be found in the
    document of the next start. Raises `Faults` with everything that is wrong.
    """
    faults: list[str] = []
    values: dict[str, Any] = {}
    faulty: set[str] = set()
    for source, key, raw in [
        *_from_toml(toml, toml_name, faults),
        *_from_environ(environ, faults),
        *_from_flags(flags, faults),
    ]:
        field_name, spec = OPTIONS[key]
        try:
            values[field_name] = spec.read(raw)
        except ValueError as exc:
            faulty.add(field_name)
            faults.append(f"{source} {exc}{_given(raw, spec, str(exc))}{_hint(source, raw)}")
    if not values.get("demo") and "log" not in values:
        values.setdefault("data", data)
    settings = Settings(**values)
    settings = replace(settings, **tables(toml, toml_name, settings, faults))
    faults.extend(contradictions(settings, faulty))
    if faults:
        raise Faults(faults)
    return settings


def load_here(
    flags: Mapping[str, object] | None = None,
    *,
    config: str | None = None,
    data: Path | None = None,
) -> Settings:
    """Settings of this process: flags, its environment, and its file.

    The file is `config`, or $TRIODE_CONFIG, or ./triode.toml if there is one; `data` as in `load`.
    Raises `Faults`, also when a file that was named cannot be read.
    """
    named = config or os.environ.get("TRIODE_CONFIG")
    path = Path(named or CONFIG_NAME)
    try:
        toml = path.read_text(encoding="utf-8") if named or path.exists() else None
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8"
        raise Faults([f"{path} cannot be read: {reason}"]) from None
    return load(flags or {}, os.environ, toml, toml_name=str(path), data=data)


Layer = Iterator[
    tuple[str, str, object]
]  # where it was found, public name of the option, raw value


def _from_toml(toml: str | None, name: str, faults: list[str]) -> Layer:
    try:
        table = tomllib.loads(toml or "")
    except tomllib.TOMLDecodeError as exc:
        faults.append(f"{name} is not TOML: {exc}")
        return
    for key, value in table.items():
        public = _public(key)
        if key in KINDS:
            continue
        if public is None:
            faults.append(f"{name}: {key!r} is not an option{_suggestion(key, [*OPTIONS, *KINDS])}")
        else:
            yield f"{name}: {key}", public, value


def _from_environ(environ: Mapping[str, str], faults: list[str]) -> Layer:
    for variable, value in sorted(environ.items()):
        ours = variable.startswith("TRIODE_") and variable not in _OTHER_VARIABLES
        if not ours or not value or _SERVICE_LINK.fullmatch(variable):
            continue
        public = _public(variable.removeprefix("TRIODE_").lower())
        if public is None:
            known = [f"TRIODE_{name.upper()}" for name in OPTIONS]
            faults.append(f"{variable} is not an option{_suggestion(variable, known)}")
        else:
            yield variable, public, value


def _from_flags(flags: Mapping[str, object], faults: list[str]) -> Layer:
    for key, value in flags.items():
        public = _public(key)
        if public is None:
            faults.append(f"{key!r} is not an option{_suggestion(key, list(OPTIONS))}")
        elif value is not None:
            yield f"--{public.replace('_', '-')}", public, value


def _public(key: str) -> str | None:
    key = key.replace("-", "_")
    return key if key in OPTIONS else _NAMES.get(key)


def _suggestion(key: str, known: list[str]) -> str:
    near = did_you_mean(key.replace("-", "_"), known)
    return near or "; docs/configuration.md lists them all"


def _given(raw: object, spec: Option, complaint: str) -> str:
    return "" if spec.secret or repr(raw) in complaint else f", not {raw!r}"


def _hint(source: str, raw: object) -> str:
    if source == "TRIODE_PORT" and str(raw).startswith("tcp://"):
        return (
            " (Kubernetes sets this for a service called triode: set enableServiceLinks to false)"
        )
    return ""

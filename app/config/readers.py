"""How option values are read: sizes, durations, rates, lists; from text or from TOML's types.

A reader takes the raw value and returns the typed one, or raises `ValueError` with a sentence that
starts with "must" and says what would have been right. Readers of secrets never repeat the value.
"""

from __future__ import annotations

import ipaddress
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

from triode.app.config.log_address import LogAddress, parse_log_address
from triode.limits.grant import EVERYTHING, Grant
from triode.limits.rate import PRESETS, Rate, parse_rate
from triode.store.filter import FilterError, parse_filter, split_filters

T = TypeVar("T")
Reader: TypeAlias = Callable[[object], T]

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", re.ASCII)
_HOST_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|[0-9a-f:]*:[0-9a-f:.]*")
_FIELD_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_BYTES: Final = {
    "": 1, "b": 1,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3,
    "k": 1024, "kib": 1024, "m": 1024**2, "mib": 1024**2, "g": 1024**3, "gib": 1024**3,
}  # fmt: skip
_SECONDS: Final = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
}
_ORIGIN: Final = re.compile(
    r"(?P<scheme>https?)://(?P<host>(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?|\[[0-9a-f:.]+\])"
    r"(?::(?P<port>[0-9]{1,5}|\*))?/?",
    re.ASCII,
)
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
# Those of `limits.jwt_key`, which is not loaded for their names: cryptography is 10 MB.
JWT_ALGORITHMS: Final = (
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
)  # fmt: skip
# JSON numbers of this size still survive a trip through a double.
_LARGEST: Final = 2**53


def read_text(value: object) -> str:
    """Any text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def read_flag(value: object) -> bool:
    """A yes or no: TOML's booleans, or the usual words."""
    if isinstance(value, bool):
        return value
    word = value.strip().lower() if isinstance(value, str) else str(value)
    if word not in _TRUE | _FALSE:
        raise ValueError("must be true or false")
    return word in _TRUE


def whole(minimum: int, maximum: int = _LARGEST) -> Reader[int]:
    """A reader for whole numbers from `minimum` to `maximum`."""
    bounds = f"from {minimum} to {maximum}" if maximum < _LARGEST else f"of at least {minimum}"

    def read(value: object) -> int:
        text = str(value).strip().replace("_", "")
        if isinstance(value, bool | float) or not re.fullmatch(r"-?[0-9]{1,16}", text):
            raise ValueError(f"must be a whole number {bounds}")
        return _within(int(text), minimum, maximum, f"must be a whole number {bounds}")

    return read


def size(minimum: int, maximum: int = _LARGEST) -> Reader[int]:
    """A reader for sizes in bytes: `65536`, `64KiB`, `20 MiB`, `1.5GB`."""
    bounds = f"from {format_size(minimum)} to {format_size(maximum)}"
    if maximum == _LARGEST:
        bounds = f"of at least {format_size(minimum)}"

    def read(value: object) -> int:
        found = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
        unit = _BYTES.get(found[2].lower()) if found else None
        if found is None or unit is None:
            raise ValueError(f"must be a size {bounds}, such as 65536, 64KiB or 20MiB")
        return _within(int(float(found[1]) * unit), minimum, maximum, f"must be a size {bounds}")

    return read


def duration(minimum: float, maximum: float = 366 * 86400.0) -> Reader[float]:
    """A reader for durations, in seconds: `10`, `10s`, `500ms`, `15m`, `1h`, `1d`."""
    bounds = f"from {format_duration(minimum)} to {format_duration(maximum)}"

    def read(value: object) -> float:
        found = None if isinstance(value, bool) else _SIZE.fullmatch(str(value).strip())
        unit = _SECONDS.get(found[2].lower()) if found else None
        if found is None or unit is None:
            raise ValueError(f"must be a duration {bounds}, such as 10s, 500ms or 1h")
        return _within(float(found[1]) * unit, minimum, maximum, f"must be a duration {bounds}")

    return read


def read_rate(value: object) -> Rate | None:
    """`RPS/BURST` such as `100/20`, a preset, or `0` for no limit (None)."""
    try:
        return parse_rate(str(value))
    except ValueError:
        presets = ", ".join(PRESETS)
        raise ValueError(
            f"must be RPS/BURST such as 100/20, 0 for no limit, or {presets}"
        ) from None


def read_names(value: object) -> tuple[str, ...]:
    """A list: TOML's, or text with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
        raise ValueError("must be a list of texts, or one text with commas")
    names = tuple(part.strip() for part in parts)
    if not all(names):
        raise ValueError("must hold no empty part: take the comma out, or leave the option out")
    return names


def choice_list(allowed: tuple[str, ...]) -> Reader[tuple[str, ...]]:
    """A reader for lists whose items all come from `allowed`."""

    def read(value: object) -> tuple[str, ...]:
        names = read_names(value)
        wrong = [name for name in names if name not in allowed]
        if wrong:
            raise ValueError(f"must name only {', '.join(allowed)}; {wrong[0]!r} is none of them")
        return names

    return read


def choice(*allowed: str) -> Reader[str]:
    """A reader for one word of those allowed."""

    def read(value: object) -> str:
        if value not in allowed:
            raise ValueError(f"must be {' or '.join(allowed)}")
        return str(value)

    return read


def read_file(value: object) -> Path:
    """The path of a file that can be read now."""
    path = Path(read_text(value)).expanduser()
    try:
        with path.open("rb"):
            return path
    except OSError as exc:
        raise ValueError(f"must be a file that can be read: {exc.strerror}") from None


def read_path(value: object) -> Path:
    """A path, of something that need not be there yet."""
    return Path(read_text(value)).expanduser()


def read_mode(value: object) -> str:
    """The mode of a file, as `chmod` takes it: three octal digits."""
    text = str(value).strip().removeprefix("0o")
    if isinstance(value, bool | float) or not re.fullmatch(r"0?[0-7]{3}", text):
        raise ValueError("must be the mode of a file, such as 660")
    return text[-3:]


def read_data(value: object) -> Path | None:
    """A folder to keep the log in, which need not be there yet; None for `memory`."""
    text = read_text(value)
    return None if text == "memory" else Path(text).expanduser()


def read_log(value: object) -> LogAddress:
    """The address of a shared log."""
    return parse_log_address(read_text(value))


def read_origins(value: object) -> tuple[str, ...]:
    """Web origins (RFC 6454 section 6.2), such as `https://example.org:8443`; or `*` for all.

    `https://*.example.org` is every name below it, `http://localhost:*` every port.
    """
    return tuple(_origin(name) for name in read_names(value))


def _origin(text: str) -> str:
    """The origin as browsers send it: small letters, and no port where it is the scheme's own."""
    if text == "*":
        return text
    if text.lower() == "null":
        raise ValueError(
            "must not hold null: any page can make itself that origin (a sandboxed frame, a file);"
            " serve the page from an origin of its own"
        )
    found = _ORIGIN.fullmatch(text.lower())
    if found is None or (found["port"] not in (None, "*") and int(found["port"]) > 65535):
        raise ValueError(
            "must hold origins such as https://example.org, https://*.example.org,"
            f" http://localhost:* or *; {text!r} is none of these"
        )
    usual = {"http": "80", "https": "443"}[found["scheme"]]
    port = found["port"]
    return f"{found['scheme']}://{found['host']}" + (
        f":{port}" if port not in (None, usual) else ""
    )


def read_hosts(value: object) -> tuple[str, ...]:
    """Names of hosts without ports, such as `box.lan`; or `*` for all."""
    names = tuple(name.lower().rstrip(".") for name in read_names(value))
    for name in names:
        if name != "*" and not _HOST_NAME.fullmatch(name):
            raise ValueError(
                f"must hold hosts without ports, such as box.lan, or *; {name!r} is neither"
            )
    return names


def read_field_names(value: object) -> tuple[str, ...]:
    """Names of header fields, such as `traceparent`."""
    names = read_names(value)
    for name in names:
        if not _FIELD_NAME.fullmatch(name):
            raise ValueError(f"must hold names of headers such as traceparent; {name!r} is none")
    return names


def read_networks(value: object) -> tuple[str, ...]:
    """IP addresses or ranges; host bits are allowed (`127.0.0.1/8`)."""
    names = read_names(value)
    for name in names:
        try:
            ipaddress.ip_network(name, strict=False)
        except ValueError:
            example = "10.0.0.0/8 or 192.168.1.4"
            raise ValueError(
                f"must hold addresses or ranges such as {example}; {name!r} is neither"
            ) from None
    return names


def read_filters(value: object) -> tuple[str, ...]:
    """A list of filters, all well-formed."""
    texts = split_filters(value.strip()) if isinstance(value, str) else list(read_names(value))
    for text in texts:
        try:
            if text != EVERYTHING:
                parse_filter(text)
        except FilterError as exc:
            raise ValueError(
                f"must hold filters; {text!r}, column {exc.column}: {exc.detail}"
            ) from None
    return tuple(texts)


def read_grant(value: object) -> Grant:
    """A grant: a table in TOML, else JSON such as `{"read":[".public"]}`."""
    try:
        stated = json.loads(value) if isinstance(value, str) else value
        return Grant.from_json(stated, check=parse_filter)
    except (ValueError, RecursionError) as exc:
        raise ValueError(
            f'must be a grant such as {{"read":[".public"],"rooms":["*"]}}: {exc}'
        ) from None


def read_jwt_key(value: object) -> str:
    """`hs256:SECRET`, a PEM or JWKS text, or the path of a file that holds one; as it was given."""
    text = read_text(value)
    try:
        from triode.app.config.jwt_key import read_keys  # cryptography: 10 MB that few servers need

        read_keys(text)
    except ValueError as exc:
        raise ValueError(
            f"must be hs256:SECRET, a PEM key or JWK Set, or its file: {exc}"
        ) from None
    return text


def format_size(number: int) -> str:
    """`65536` → `64 KiB`; exact, in the largest unit that divides it."""
    for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
        if number >= factor and number % factor == 0:
            return f"{number // factor} {unit}"
    return f"{number} B"


def format_duration(seconds: float) -> str:
    """`0.5` → `500ms`, `3600` → `1h`; exact to the millisecond."""
    for unit, factor in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= factor and seconds % factor == 0:
            return f"{seconds / factor:.0f}{unit}"
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds:g}s"


N = TypeVar("N", int, float)


def _within(number: N, minimum: N, maximum: N, complaint: str) -> N:
    if not math.isfinite(number) or not minimum <= number <= maximum:
        raise ValueError(complaint)
    return number

"""Settings: every option of the server, in one frozen value that has been checked as a whole.

An option is a field of `Settings`; its default, its reader and its help stand in one place, and the
flags of `triode serve`, the `TRIODE_*` variables, the keys of `triode.toml` and the table of
docs/configuration.md all come from there. Precedence: flags, environment, file, default. A duration
is called `write_deadline_s` in the code and `write_deadline` outside, where its value carries the
unit ("10s").

Nobody should have to start the server five times to find five mistakes: `load` reads every layer,
also where a higher one wins, collects all faults, and raises them together.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from triode.app.config.log_address import LogAddress
from triode.app.config.option import Option, option
from triode.app.config.readers import (
    JWT_ALGORITHMS,
    choice,
    choice_list,
    duration,
    read_data,
    read_field_names,
    read_file,
    read_filters,
    read_flag,
    read_grant,
    read_hosts,
    read_jwt_key,
    read_log,
    read_mode,
    read_networks,
    read_origins,
    read_path,
    read_rate,
    read_text,
    size,
    whole,
)
from triode.app.config.socket_route import SocketRoute
from triode.limits.grant import NONE, Grant
from triode.limits.rate import Rate

KIB: Final = 1024
MIB: Final = 1024 * KIB
# Where `triode serve` keeps the document if nothing is said.
DATA_HERE: Final = "./triode-data"


_count = whole(1)
_count_or_off = whole(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Every option. Sizes are bytes, names ending in `_s` seconds, 0 is off where it says so."""

    # where
    host: str = option("127.0.0.1", read_text, "Address to listen on.", "ADDRESS")
    port: int = option(8080, whole(0, 65535), "Port to listen on; 0 takes a free one.", "PORT")
    backlog: int = option(65535, whole(1, 65535), "Connections that may wait to be accepted.", "N")
    unix: Path | None = option(
        None, read_path, "Unix socket to listen on, instead of host and port.", "PATH"
    )
    unix_mode: str = option(
        "660", read_mode, "File mode of the Unix socket: who may connect.", "MODE"
    )
    fd: int | None = option(
        None,
        whole(0, 2**31 - 1),
        "Number of an inherited listening socket, instead of host and port.",
        "N",
    )
    workers: int = option(
        1,
        whole(1, 64),
        "Processes of `triode serve` that share the port; with more than one, a log (`log`), too.",
        "N",
    )
    certfile: Path | None = option(None, read_file, "TLS certificate chain, PEM.", "FILE")
    keyfile: Path | None = option(None, read_file, "Private key of the certificate, PEM.", "FILE")
    trusted_proxies: tuple[str, ...] = option(
        (), read_networks, "Proxies whose X-Forwarded-For is believed.", "RANGE,…"
    )

    # who
    admin_token: str | None = option(
        None,
        read_text,
        "Token that may do everything; switches authentication on.",
        "TOKEN",
        secret=True,
    )
    jwt_key: str | None = option(
        None,
        read_jwt_key,
        "Key for JWTs: a PEM or JWKS file, or hs256:SECRET (hs384:, hs512:).",
        "KEY",
        secret=True,
    )
    jwt_algorithms: tuple[str, ...] = option(
        (),
        choice_list(JWT_ALGORITHMS),
        "JWT algorithms that are accepted; unset: those of the key.",
        "NAME,…",
    )
    jwt_audience: str | None = option(None, read_text, "Audience a JWT must be meant for.", "TEXT")
    jwt_issuer: str | None = option(None, read_text, "Issuer a JWT must come from.", "TEXT")
    jwt_leeway_s: float = option(
        0.0, duration(0, 600), "How much clocks may differ, for nbf and exp of a JWT.", "TIME"
    )
    jwt_default_grant: Grant = option(
        NONE, read_grant, "What a JWT without a grant may do, as JSON; unset: nothing.", "GRANT"
    )
    anonymous_read: tuple[str, ...] = option(
        (), read_filters, "What may be read without a token when authentication is on.", "FILTER,…"
    )
    insecure: bool = option(False, read_flag, "Allow an open address without authentication.", "")
    cors_origins: tuple[str, ...] = option(
        (), read_origins, "Other web origins that may use the server; * means all.", "ORIGIN,…"
    )
    cors_headers: tuple[str, ...] = option(
        (), read_field_names, "More request headers that pages of those origins may send.", "NAME,…"
    )
    allowed_hosts: tuple[str, ...] = option(
        (),
        read_hosts,
        "Host names that may be used without tokens, besides loopback.",
        "NAME,…",
    )
    client_tags: bool = option(True, read_flag, "Let clients tag themselves (`client.NAME`).", "")
    control_from: tuple[str, ...] = option(
        (), read_networks, "Who may use /connections without a token.", "RANGE,…"
    )

    # how much
    max_connections: int = option(
        0,
        _count_or_off,
        "Most connections at once, streams included; 0: as many as open files allow.",
        "N",
    )
    max_clients: int = option(10_000, _count, "Most clients at once; more get 503.", "N")
    max_clients_per_ip: int | None = option(
        None,
        _count_or_off,
        "The same for one address; 0 is off. Unset: half of it, and loopback is off.",
        "N",
    )
    max_clients_per_token: int = option(
        0, _count_or_off, "Most clients at once with one token; 0 is off.", "N"
    )
    http_rate: Rate | None = option(
        Rate(100, 20), read_rate, "HTTP requests from one token or address; 0 is off.", "RPS/BURST"
    )
    ws_rate: Rate | None = option(
        Rate(100, 200), read_rate, "Commands on one WebSocket; 0 is off.", "RPS/BURST"
    )
    http2_rate: Rate | None = option(
        Rate(33, 1000),
        read_rate,
        "HTTP/2 frames without content (resets, pings) on one connection; 0 is off.",
        "RPS/BURST",
    )
    max_filters: int = option(100, _count, "Most filters of one client.", "N")
    max_rooms: int = option(100, _count, "Most rooms of one client.", "N")
    memory: int = option(
        0,
        size(0),
        "Most memory for all that is held for clients; 0: three quarters of the machine's.",
        "SIZE",
    )
    bodies_bytes: int = option(
        256 * MIB, size(1 * MIB), "Most bytes of request bodies that are being received.", "SIZE"
    )
    pins_bytes: int = option(
        256 * MIB,
        size(0),
        "Most bytes of old values that downloads still need; more downloads are refused.",
        "SIZE",
    )
    max_body_bytes: int = option(20 * MIB, size(1), "Largest request body.", "SIZE")
    max_answer_bytes: int = option(
        64 * MIB,
        size(1024),
        "Most answers of one `POST /store/batch`; what follows is not run.",
        "SIZE",
    )
    max_message_bytes: int = option(1 * MIB, size(1), "Largest WebSocket message.", "SIZE")
    max_unfinished_bytes: int = option(
        64 * MIB, size(0), "Most bytes of unfinished WebSocket messages, of all clients.", "SIZE"
    )
    deflate_from: int = option(
        1024, size(0), "Smallest WebSocket message that is compressed; 0 is off.", "SIZE"
    )
    max_work: int = option(
        1_000_000, _count, "Most work of one request, in steps of about a microsecond.", "N"
    )
    max_deadlines: int = option(100_000, _count, "Most places with a time to live.", "N")
    match_work: int = option(
        2_000, _count, "Most steps of one write for filters that must be evaluated again.", "N"
    )
    cpu_share_s: float = option(
        20.0,
        duration(0, 60),
        "CPU time that one token or address may use in a minute; 0 is off.",
        "TIME",
    )
    max_depth: int = option(256, whole(1, 512), "Deepest nesting of JSON.", "N")
    max_head_bytes: int = option(16_384, size(512, 1 * MIB), "Largest request head.", "SIZE")
    max_heads: int = option(
        1024, _count, "Most connections that are sending their first request head; more wait.", "N"
    )
    max_heads_per_ip: int | None = option(
        None,
        _count_or_off,
        "The same for one address; 0 is off. Unset: half of it, and loopback is off.",
        "N",
    )
    max_http: int = option(
        10_000, _count, "Most connections at once that are not streams; more get 503.", "N"
    )
    max_http_per_ip: int | None = option(
        None,
        _count_or_off,
        "The same for one address; 0 is off. Unset: half of it, and loopback is off.",
        "N",
    )
    head_deadline_s: float = option(
        10.0,
        duration(0.001),
        "Time for a request head, TLS handshake included.",
        "TIME",
    )

    # delivery
    queue_items: int = option(100, _count, "Most events that wait for one slow client.", "N")
    queue_bytes: int = option(
        64 * KIB,
        size(1),
        "Most bytes that wait for one slow client, or are being written to it.",
        "SIZE",
    )
    direct_items: int = option(
        64, _count, "Most direct messages from one sender that wait for one slow client.", "N"
    )
    write_deadline_s: float = option(
        10.0, duration(0.001), "A client that takes nothing for so long is disconnected.", "TIME"
    )
    heal_wait_max_s: float = option(
        30.0,
        duration(0),
        "Longest wait between snapshots for a client that cannot keep up.",
        "TIME",
    )
    filter_wait_max_s: float = option(
        64.0,
        duration(1),
        "Longest pause of a filter that takes too much work, before it is tried again.",
        "TIME",
    )
    heartbeat_s: float = option(15.0, duration(0.001), "Time between heartbeats.", "TIME")
    idle_s: float = option(
        60.0, duration(0.001), "Silence after which a WebSocket is dead.", "TIME"
    )
    drain_s: float = option(30.0, duration(0), "Time to empty queues at shutdown.", "TIME")
    retry_min_s: float = option(
        10.0,
        duration(0),
        "Time from shutdown until the first EventSource comes back: more than a restart takes.",
        "TIME",
    )
    retry_spread_s: float = option(
        0.001,
        duration(0),
        "Time that each client adds to the period in which all come back.",
        "TIME",
    )
    send_buffer_bytes: int = option(
        0,
        size(0, 2**31 - 1),
        "Send buffer of a client's socket; 0 leaves it to the system.",
        "SIZE",
    )

    # the document and its log
    max_document_bytes: int = option(
        256 * MIB,
        size(1),
        "Largest document, as JSON; a write that would make it larger is refused.",
        "SIZE",
    )
    history_items: int = option(10_000, _count_or_off, "Changes kept for clients that resume.", "N")
    history_bytes: int = option(
        64 * MIB, size(0), "Most bytes of changes kept for clients that resume.", "SIZE"
    )
    resume_bytes: int = option(
        4 * MIB,
        size(0),
        "Longest replay to a client that resumes; the rest is a gap and a snapshot.",
        "SIZE",
    )
    room_history: int = option(
        100, _count_or_off, "Messages that each room keeps for members that resume; 0 is off.", "N"
    )
    room_history_bytes: int = option(
        16 * MIB, size(0), "Most bytes of messages that all rooms keep.", "SIZE"
    )
    data: Path | None = option(
        None,
        read_data,
        f"Folder that keeps the document; memory: none. Unset: {DATA_HERE} for `triode serve`, "
        "memory elsewhere and with demo.",
        "DIR",
    )
    log: LogAddress | None = option(
        None,
        read_log,
        "Valkey or Redis server that keeps the document for several Triodes, not in a folder.",
        "URL",
        secret=True,
    )
    durability: str = option(
        "full",
        choice("full", "relaxed"),
        "What an answered write survives. full: a power failure; relaxed: a crash of Triode.",
        "KIND",
    )
    log_deadline_s: float = option(
        5.0,
        duration(0.001),
        "Time for the log to take a write; then 503 says that the outcome is not known.",
        "TIME",
    )
    position_wait_s: float = option(
        2.0, duration(0.001), "Longest wait of a read for the position it names.", "TIME"
    )
    log_pipeline: int = option(
        256, _count, "Most writes of one client on their way to the log; more wait.", "N"
    )
    log_queue_items: int = option(
        16384, _count, "Most writes of all clients on their way to the log; more wait.", "N"
    )
    log_queue_bytes: int = option(64 * MIB, size(1), "Most bytes of all these writes.", "SIZE")
    load: Path | None = option(
        None, read_file, "JSON file with the first document of a new log.", "FILE"
    )
    demo: bool = option(
        False, read_flag, "Write this machine's counters to .host every second.", ""
    )
    debug: bool = option(False, read_flag, "Log more, and offer profiles to admins.", "")

    sockets: tuple[SocketRoute, ...] = ()

    @property
    def auth(self) -> bool:
        """Whether callers have to show a token."""
        return self.admin_token is not None or self.jwt_key is not None

    @property
    def tls(self) -> bool:
        """Whether this server itself speaks TLS."""
        return self.certfile is not None

    @property
    def loopback(self) -> bool:
        """Whether only this machine can connect, as far as it is known before."""
        if self.unix is not None:
            return True
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


# Public name → field name and option, in the order of the class.
OPTIONS: Final[Mapping[str, tuple[str, Option]]] = {
    item.name.removesuffix("_s"): (item.name, item.metadata["option"])
    for item in fields(Settings)
    if "option" in item.metadata
}
DEFAULTS: Final = Settings()

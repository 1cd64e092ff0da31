"""Settings: precedence, units, and that every fault is named, at once, with what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.app.certificate import make_certificate
from triode.app.config.loading import Faults, load, load_here
from triode.app.config.option_text import option_text
from triode.app.config.readers import format_duration, format_size, read_flag, read_origins, size
from triode.app.config.settings import DEFAULTS, OPTIONS, Settings
from triode.app.config.validation import warnings
from triode.limits.rate import Rate

SECRET = "correct-horse-battery-staple-0123456789"


def faults_of(
    flags: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    toml: str | None = None,
) -> tuple[str, ...]:
    with pytest.raises(Faults) as caught:
        load(flags or {}, environ or {}, toml)
    return caught.value.faults


def test_defaults_are_those_of_the_features() -> None:
    settings = load({}, {})
    assert settings == Settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8080)
    assert (settings.http_rate, settings.ws_rate) == (Rate(100, 20), Rate(100, 200))
    assert (settings.queue_items, settings.queue_bytes) == (100, 64 * 1024)
    assert (settings.max_body_bytes, settings.max_message_bytes) == (20 << 20, 1 << 20)
    assert (settings.heartbeat_s, settings.idle_s, settings.drain_s) == (15, 60, 30)
    assert (settings.max_clients, settings.backlog) == (10_000, 65_535)
    assert not settings.auth
    assert settings.loopback
    assert not list(warnings(settings))


def test_flags_win_over_environment_over_file_over_default() -> None:
    toml = "port = 1\nqueue_items = 1\nmax_rooms = 1\n"
    environ = {"TRIODE_PORT": "2", "TRIODE_QUEUE_ITEMS": "2"}
    settings = load({"port": "3"}, environ, toml)
    assert (settings.port, settings.queue_items, settings.max_rooms) == (3, 2, 1)
    assert settings.max_filters == 100


def test_what_was_not_given_hides_nothing() -> None:
    assert load({"port": None}, {"TRIODE_PORT": ""}, "port = 7").port == 7


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ({}, Path("here")),
        ({"data": "there"}, Path("there")),
        ({"data": "memory"}, None),
        ({"demo": True}, None),  # or its data would be in the document of the next start
        ({"demo": True, "data": "there"}, Path("there")),
    ],
)
def test_where_the_document_is_kept(flags: dict[str, object], kept: Path | None) -> None:
    assert load(flags, {}, data=Path("here")).data == kept
    assert load({}, {f"TRIODE_{k.upper()}": str(v) for k, v in flags.items()}).data in (None, kept)
    assert load({}, {}).data is None


def test_a_word_that_is_no_durability_is_told_which_are() -> None:
    with pytest.raises(Faults, match="--durability must be full or relaxed, not 'ful'"):
        load({"durability": "ful"}, {})


def test_false_and_zero_are_values() -> None:
    settings = load({"client_tags": False, "http_rate": "0"}, {"TRIODE_CLIENT_TAGS": "yes"})
    assert settings.client_tags is False
    assert settings.http_rate is None


def test_every_option_is_read_from_every_layer() -> None:
    for name, (field_name, spec) in OPTIONS.items():
        text = option_text(DEFAULTS, name)
        if text in ("", "***"):
            continue
        quoted = text if text in ("true", "false") else f'"{text}"'
        for settings in (
            load({name.replace("_", "-"): text}, {}),
            load({}, {f"TRIODE_{name.upper()}": text}),
            load({}, {}, f"{name} = {quoted}"),
            load({}, {}, f"{field_name} = {quoted}"),
        ):
            assert settings == DEFAULTS, spec.help


@pytest.mark.parametrize(
    ("text", "number"),
    [("65536", 65536), ("64KiB", 65536), ("64 kib", 65536), ("1MB", 10**6), ("1.5KiB", 1536)],
)
def test_sizes(text: str, number: int) -> None:
    assert load({"queue_bytes": text}, {}).queue_bytes == number


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10", 10), ("10s", 10), ("500ms", 0.5), ("2m", 120), ("1h", 3600), (" 1.5 s ", 1.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert load({"write_deadline": text}, {}).write_deadline_s == seconds
    assert load({"write_deadline_s": text}, {}).write_deadline_s == seconds


@pytest.mark.parametrize("text", ["-1", "1e3", "inf", "nan", "10 parsecs", "", "0", "1_0", "٣"])
def test_durations_refused(text: str) -> None:
    assert len(faults_of({"write_deadline": text})) == 1


@pytest.mark.parametrize("value", ["-1", "65536", "http", "1.0", 1.0, True, "0x10", "٣"])
def test_ports_refused(value: object) -> None:
    assert faults_of({"port": value}) == (
        f"--port must be a whole number from 0 to 65535, not {value!r}",
    )


@given(st.integers(1, 2**53))
def test_a_size_survives_its_text(number: int) -> None:
    assert size(1)(format_size(number)) == number


@given(st.integers(1, 10**7))
def test_a_duration_survives_its_text(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert load({"head_deadline": text}, {}).head_deadline_s == pytest.approx(
        milliseconds / 1000, rel=1e-5
    )


def test_all_faults_at_once_each_with_its_place() -> None:
    toml = 'max_clients = "many"\nport = 1\ncolour = "red"\n[[socket]]\npath = "game"\n'
    environ = {"TRIODE_HTTP_RATE": "fast", "TRIODE_HEARTBEET": "1s"}
    faults = faults_of({"queue-bytes": "much", "port": "99999"}, environ, toml)
    assert len(faults) == 7
    for part in (
        "triode.toml: 'colour' is not an option",
        "TRIODE_HEARTBEET is not an option; did you mean 'TRIODE_HEARTBEAT'?",
        "triode.toml: max_clients must be a whole number of at least 1, not 'many'",
        "TRIODE_HTTP_RATE must be RPS/BURST such as 100/20",
        "--queue-bytes must be a size of at least 1 B, such as 65536, 64KiB or 20MiB, not 'much'",
        "--port must be a whole number from 0 to 65535, not '99999'",
        "triode.toml: [[socket]] number 1: path must be a text that starts with a slash",
    ):
        assert any(fault.startswith(part) for fault in faults), part


def test_a_fault_in_a_lower_layer_is_a_fault() -> None:
    assert len(faults_of({"port": "1"}, {"TRIODE_PORT": "one"})) == 1


def test_broken_toml_is_one_fault() -> None:
    assert faults_of(toml="port = ")[0].startswith("triode.toml is not TOML:")


def test_the_key_of_a_kubernetes_service_is_explained() -> None:
    faults = faults_of(
        environ={
            "TRIODE_PORT": "tcp://10.0.0.1:80",
            "TRIODE_SERVICE_HOST": "10.0.0.1",
            "TRIODE_PORT_80_TCP": "tcp://10.0.0.1:80",
        }
    )
    assert len(faults) == 1
    assert "enableServiceLinks" in faults[0]


def test_the_command_lines_own_variables_are_no_options() -> None:
    environ = {"TRIODE_URL": "x", "TRIODE_TOKEN": "x", "TRIODE_CASES": "x", "OTHER": "x"}
    assert load({}, environ) == DEFAULTS


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", "fe80::1"])
def test_open_without_auth_needs_insecure(host: str) -> None:
    assert "--insecure" in faults_of({"host": host})[0]
    assert "read and write" in next(warnings(load({"host": host, "insecure": True}, {})))
    assert load({"host": host, "admin_token": SECRET}, {}).auth


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_auth(host: str) -> None:
    assert load({"host": host}, {}).loopback


def test_a_broken_key_is_one_fault_not_two() -> None:
    """With a key that cannot be read nobody knows yet whether authentication is on."""
    faults = faults_of({"host": "0.0.0.0", "jwt_key": "hs256:short"})
    assert len(faults) == 1
    assert "32 bytes" in faults[0]


def test_options_that_contradict_each_other() -> None:
    assert "keyfile" in faults_of({"certfile": __file__})[0]
    assert "certfile" in faults_of({"keyfile": __file__})[0]
    assert "heartbeat" in faults_of({"idle": "15s", "heartbeat": "15s"})[0]
    assert "--jwt-key" in faults_of({"jwt_audience": "triode"})[0]
    algorithms = {"jwt_key": f"hs256:{SECRET}", "jwt_algorithms": "ES256"}
    assert "HS256" in faults_of(algorithms)[0]


def test_a_certificate_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    good, other = tmp_path / "good.pem", tmp_path / "other.pem"
    make_certificate(good)
    make_certificate(other)
    no_pem = tmp_path / "no.pem"
    no_pem.write_text("no PEM")
    key = load_pem_private_key(good.read_bytes(), None)
    encrypted = tmp_path / "encrypted.pem"
    scheme = BestAvailableEncryption(b"secret")
    encrypted.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, scheme))
    assert load({"certfile": str(good), "keyfile": str(good)}, {}).tls
    for certfile, keyfile, fault in (
        (no_pem, good, f"certfile holds no PEM certificate: {no_pem}"),
        (good, no_pem, f"keyfile holds no PEM private key: {no_pem}"),
        (good, other, f"keyfile is not the key of the certificate: {other}"),
        (good, encrypted, "keyfile is encrypted: decrypt it first"),
    ):
        (said,) = faults_of({"certfile": str(certfile), "keyfile": str(keyfile)})
        assert said.startswith(fault)


def test_what_was_given_is_named_once() -> None:
    (said,) = faults_of({"cors_origins": "example.org"})
    assert said.endswith("or *; 'example.org' is none of these")


def test_warnings(tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    make_certificate(pem)

    def of(**flags: object) -> str:
        return " ".join(warnings(load(flags, {})))

    assert "without TLS" in of(host="0.0.0.0", admin_token=SECRET)
    assert not of(host="0.0.0.0", admin_token=SECRET, certfile=str(pem), keyfile=str(pem))
    # One character less than is enough, and no less on the next start.
    for token, warned in (("x", True), ("x" * 15, True), ("x" * 16, False)):
        assert ("whoever guesses it may read, write" in of(admin_token=token)) is warned
    assert "web page" in of(cors_origins="*")
    assert "trusted proxy" in of(trusted_proxies="0.0.0.0/0")
    assert "--anonymous-read" in of(anonymous_read=".a")
    assert "--durability" in of(durability="relaxed")
    assert not of(durability="relaxed", data="kept")


def test_secrets_are_in_no_text() -> None:
    settings = load({"admin_token": SECRET, "jwt_key": f"hs256:{SECRET}"}, {})
    texts = [repr(settings), str(settings), *warnings(settings)]
    texts += [option_text(settings, name) for name in OPTIONS]
    assert not any(SECRET in text for text in texts)
    faults = faults_of({"jwt_key": "hs256:" + SECRET[:20], "admin_token": True})
    assert not any(SECRET[:20] in fault for fault in faults)


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        DEFAULTS.port = 1  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["hs256", "pem", "jwks"])
def test_a_jwt_key_may_be_literal_or_a_file(kind: str, tmp_path: Path) -> None:
    text = {
        "hs256": f"hs256:{SECRET}",
        "pem": "-----BEGIN PUBLIC KEY-----\n"
        "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
        "-----END PUBLIC KEY-----\n",
        "jwks": '{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"EdDSA",'
        '"x":"Gb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE"}]}',
    }[kind]
    file = tmp_path / "key"
    file.write_text(text)
    assert load({"jwt_key": text}, {}).auth
    assert load({"jwt_key": str(file)}, {}).auth
    file.write_text("no key at all")
    assert "no key at all" not in faults_of({"jwt_key": str(file)})[0]


def test_lists_are_texts_with_commas_or_lists() -> None:
    toml = 'cors_origins = ["https://a.example", "http://B.example:81/"]\n'
    settings = load({"trusted_proxies": "127.0.0.1/8, ::1"}, {}, toml)
    assert settings.cors_origins == ("https://a.example", "http://b.example:81")
    assert settings.trusted_proxies == ("127.0.0.1/8", "::1")
    assert "'nonsense'" in faults_of({"trusted_proxies": "nonsense,10.0.0.0/8"})[0]


@pytest.mark.parametrize("text", ["a.example", "https://a.example/path", "ftp://a", "https://u@a"])
def test_origins_refused(text: str) -> None:
    with pytest.raises(ValueError, match="origins"):
        read_origins(text)


def test_anonymous_filters_are_checked_and_may_hold_commas() -> None:
    settings = load({"admin_token": SECRET, "anonymous_read": ".a[x=1,2],.b"}, {})
    assert settings.anonymous_read == (".a[x=1,2]", ".b")
    assert "column 4" in faults_of({"anonymous_read": ".a["})[0]


@pytest.mark.parametrize("word", ["true", "1", "YES", "on", True])
def test_yes(word: object) -> None:
    assert read_flag(word) is True


def test_sockets() -> None:
    toml = (
        'ws_rate = "7/9"\n'
        '[[socket]]\npath = "/game/{table}"\ntags = {kind = "game"}\nrate = "50/100"\n'
        '[[socket]]\npath = "/chat"\n'
    )
    game, chat = load({}, {}, toml).sockets
    assert game.match("/game/7") == {"kind": "game", "table": "7"}
    assert game.match("/game/") is game.match("/game") is game.match("/game/7/8") is None
    assert (game.rate, chat.rate) == (Rate(50, 100), Rate(7, 9))
    assert chat.match("/chat") == {}


@pytest.mark.parametrize(
    "table",
    [
        'path = "/ws"',
        'path = "/store/x"',
        'path = "/{anything}"',
        'path = "/a/{x}/{x}"',
        'path = "/a//b"',
        'path = "/a/b{c}"',
        'path = "/a/{x}"\ntags = {x = "1"}',
        'path = "/a"\ntags = {x = 1}',
        'path = "/a"\ntags = {"client.x" = "1"}',
        'path = "/a"\nrate = "x"',
        'path = "/a"\npaht = "x"',
        'tags = {x = "1"}',
    ],
)
def test_sockets_refused(table: str) -> None:
    assert len(faults_of(toml=f"[[socket]]\n{table}\n")) == 1


def test_two_sockets_of_one_shape_are_refused() -> None:
    toml = '[[socket]]\npath = "/a/{x}"\n[[socket]]\npath = "/a/{y}"\n'
    assert "two [[socket]] tables" in faults_of(toml=toml)[0]


def test_the_file_in_this_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("TRIODE_CONFIG", "TRIODE_PORT"):
        monkeypatch.delenv(variable, raising=False)
    assert load_here().port == 8080
    (tmp_path / "triode.toml").write_text("port = 1")
    (tmp_path / "other.toml").write_text("port = 2")
    assert load_here().port == 1
    monkeypatch.setenv("TRIODE_CONFIG", "other.toml")
    assert load_here().port == 2
    assert load_here(config="triode.toml").port == 1
    with pytest.raises(Faults, match=r"missing\.toml cannot be read"):
        load_here(config="missing.toml")


def test_the_documentation_has_every_option_with_its_default() -> None:
    text = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")
    for name in OPTIONS:
        default = option_text(DEFAULTS, name)
        shown = f"`{default}`" if default else ""
        assert f"| `{name}` | {shown} |" in text


def test_every_field_is_an_option_or_the_sockets() -> None:
    assert {item.name for item in fields(Settings)} - {name for name, _ in OPTIONS.values()} == {
        "sockets"
    }

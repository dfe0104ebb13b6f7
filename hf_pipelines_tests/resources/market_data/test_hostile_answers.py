"""What a service answers can hurt nobody: bombs, other encodings, redirects, certificates that are wrong."""

import gzip
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hf_pipelines.resources.market_data import MarketDataRefusedError
from hf_pipelines.resources.market_data.http import HttpSource

DAY = date(2013, 2, 25)
CANARY = "s3cr3t-canary"
ROW = {"symbol": "AAA", "session": f"{DAY}", "ts": f"{DAY}T21:00:00Z"} | dict.fromkeys(
    ("open", "high", "low", "close", "volume", "split_ratio", "dividend"), 1.0
)
PAGE = json.dumps({"data": [ROW], "next": None}).encode()

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def service(answer: Answer, certificate: Path | None = None) -> Iterator[str]:
    """A service that gives one answer to everything; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                # Who asked has had enough.
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"{'http' if certificate is None else 'https'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def page(body: bytes, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        for name, value in {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def endless(handler: BaseHTTPRequestHandler) -> None:
    """An answer without a length that never ends."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def fault_of(url: str) -> str:
    (file,) = HttpSource(url, ("AAA",)).read([DAY])
    return file.fault or ""


def certificate(folder: Path, *, name: str, until: datetime) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    alternative = x509.IPAddress(ip_address(name)) if name[0].isdigit() else x509.DNSName(name)
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=10))
        .not_valid_after(until)
        .add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(secret + built.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        pytest.param(page(PAGE), "", id="sound"),
        pytest.param(page(gzip.compress(PAGE), Content_Encoding="gzip"), "", id="gzip"),
        pytest.param(
            page(gzip.compress(b" " * 50_000_000), Content_Encoding="gzip"), "more than 1,000,000 bytes", id="bomb"
        ),
        pytest.param(
            page(gzip.compress(gzip.compress(b" " * 50_000_000)), Content_Encoding="gzip, gzip"),
            "it is encoded as gzip? gzip, which was not asked for",
            id="bomb in a bomb",
        ),
        pytest.param(page(PAGE, Content_Encoding="br"), "it is encoded as br, which was not asked for", id="brotli"),
        pytest.param(page(PAGE, Content_Encoding="gzip"), "not encoded as its header says", id="no gzip"),
        pytest.param(
            page(gzip.compress(PAGE)[:-9], Content_Encoding="gzip"), "not encoded as its header says", id="cut gzip"
        ),
        pytest.param(endless, "more than 1,000,000 bytes", id="endless"),
        pytest.param(page(b"[" * 300_000), "page 1 holds", id="deep"),
        pytest.param(page(b"[" * 5_000), "page 1 is no JSON", id="deep but small"),
        pytest.param(page(PAGE, Content_Type=f"{CANARY}: x"), "was s3cr3t-canary? x", id="type"),
        pytest.param(page(PAGE.replace(b'"volume"', b'"<b>' + 99 * b"v" + b'"')), "", id="name"),
    ],
)
def test_answer_above_a_cap_or_encoded_otherwise_fails_its_week(answer, said, monkeypatch):
    for name in ("HF_MAX_FILE_MB", "HF_MAX_TABLE_MB"):
        monkeypatch.setenv(name, "1")
    with service(answer) as url:
        fault = fault_of(url)
    assert said in fault
    assert bool(said) == bool(fault)


@pytest.mark.parametrize("target", ["https://other.example/ohlcv", "file:///etc/passwd", "//127.0.0.1:1/x"])
def test_answer_that_leads_elsewhere_is_refused_and_not_followed(target):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", target)
        handler.end_headers()

    with (
        service(answer) as url,
        pytest.raises(MarketDataRefusedError, match="refused with 302; set `base_url` to where") as refused,
    ):
        fault_of(url)
    assert target not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "until", "is_known", "said"),
    [
        pytest.param("127.0.0.1", timedelta(days=5), False, "self-signed certificate", id="unknown authority"),
        pytest.param("127.0.0.1", timedelta(days=-1), True, "certificate has expired", id="expired"),
        pytest.param("other.example", timedelta(days=5), True, "IP address mismatch", id="another host"),
    ],
)
def test_certificate_that_is_wrong_is_refused_at_once(name, until, is_known, said, tmp_path, monkeypatch):
    path = certificate(tmp_path, name=name, until=datetime.now(UTC) + until)
    if is_known:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    asked: list[None] = []
    with (
        service(lambda handler: asked.append(None), path) as url,
        pytest.raises(MarketDataRefusedError, match=f"certificate that can be trusted, was not: .*{said}"),
    ):
        fault_of(url)
    assert asked == []


def test_certificate_that_is_known_and_right_is_taken(tmp_path, monkeypatch):
    path = certificate(tmp_path, name="127.0.0.1", until=datetime.now(UTC) + timedelta(days=5))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(path))
    with service(page(PAGE), path) as url:
        assert fault_of(url) == ""

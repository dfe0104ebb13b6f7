"""Alert receivers: services that take alerts, as real servers of this machine.

Lives here: a web server that answers as Slack, Telegram and Discord do, and a mail server. Does not live here: what is sent.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from hf_pipelines_tests.servers import free_port

# No real ones, of the form that apprise asks for.
SLACK_URL = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#desk"
TELEGRAM_TOKEN = "123456789:AAHcanaryTele7QzWxYv8UtSrRqPpOoNnMmL"
DISCORD_URL = "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js"


@dataclass
class Service:
    """What a web server was posted, and how it answers."""

    port: int = 0
    status: int = 200
    got: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    @property
    def place(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def bodies(self) -> list[dict[str, Any]]:
        return [body for _, body in self.got]


@contextmanager
def web_service() -> Iterator[Service]:
    """A web server that takes JSON, and quotes the address if it does not."""
    service = Service()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            service.got.append((self.path, json.loads(body)))
            if service.status == 302:
                self.send_response(302)
                self.send_header("Location", f"{service.place}/elsewhere")
                self.end_headers()
                return
            answer = (
                b"ok" if "slack" in self.path or self.path.startswith("/services") else b'{"ok": true, "result": {}}'
            )
            self.send_response(service.status)
            self.end_headers()
            self.wfile.write(answer if service.status < 300 else self.path.encode())

        def log_message(self, *_: object) -> None:
            """Into no test's output."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.port = server.server_port
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()


def point_services_at(service: Service, patch: pytest.MonkeyPatch) -> None:
    """Have apprise's own services of the wide world answer from here."""
    from apprise.plugins.discord import NotifyDiscord
    from apprise.plugins.slack import NotifySlack
    from apprise.plugins.telegram import NotifyTelegram

    patch.setattr(NotifySlack, "webhook_url", f"{service.place}/services")
    patch.setattr(NotifyTelegram, "notify_url", f"{service.place}/bot")
    patch.setattr(NotifyDiscord, "notify_url", f"{service.place}/api/webhooks")


@dataclass
class Mailbox:
    """A mail server, and what it received."""

    port: int = 0
    got: list[EmailMessage] = field(default_factory=list)
    refuses: str = ""

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        if self.refuses and self.refuses in address:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.got.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"


@contextmanager
def mail_server() -> Iterator[Mailbox]:
    mailbox = Mailbox()
    mailbox.port = free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=mailbox.port)
    controller.start()
    try:
        yield mailbox
    finally:
        controller.stop()

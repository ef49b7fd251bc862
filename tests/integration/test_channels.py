"""Every channel against a real server: what arrives, and what becomes of servers that are down, slow or unfriendly."""

import asyncio
import base64
import email
import email.policy
import email.utils
import hashlib
import hmac
import io
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiosmtpd.handlers import Message as MessageHandler
from aiosmtpd.smtp import SMTP
from standardwebhooks import Webhook, WebhookVerificationError

from detection.rules.notice import Occasion, notice_of
from detection.subject import Subject
from settings import Settings
from stream.channels.alertmanager import AlertmanagerChannel
from stream.channels.channel import DeliveryError, Telling
from stream.channels.lines import LineChannel
from stream.channels.webhook import WebhookChannel
from tests.alerts import alert_of
from tests.notifying import NOW, until
from tests.process_logs import configured_logs
from tests.receiver import Answer, Receiver

SECRET = "whsec_" + base64.b64encode(b"a secret of at least 24 bytes").decode()
OTHER_SECRET = "whsec_" + base64.b64encode(b"the secret that was before it").decode()
PAGE = Path(__file__).parents[2] / "docs" / "notifications.md"


def telling(occasion: Occasion = "opened", *, subject: Subject | None = None) -> Telling:
    alert = replace(
        alert_of(subject or Subject.model("Mistral", "v1"), "prediction-accuracy", rule="accuracy"),
        condition="lower than",
        boundary=0.3,
        acknowledged_by="",
        detail={"name": "Mistral", "version": "v1", "prediction_accuracy": 0.193},
    )
    return Telling(notice_of(alert, description="Too often wrong."), occasion, NOW)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


async def test_the_line_is_printed_as_operators_know_it(capsys: pytest.CaptureFixture[str]) -> None:
    channel = LineChannel()
    await channel.tell([telling()])
    await channel.tell([telling("resolved")])
    fields = "{'name': 'Mistral', 'version': 'v1', 'prediction_accuracy': 0.193}"
    assert capsys.readouterr().out == (
        f"ALERT prediction_accuracy lower than 0.3, {fields}\nRESOLVED prediction_accuracy lower than 0.3, {fields}\n"
    )


async def test_a_line_that_nobody_can_be_shown_is_not_taken_for_told() -> None:
    closed = io.StringIO()
    closed.close()
    with pytest.raises(DeliveryError):
        await LineChannel(closed).tell([telling()])


async def test_a_webhook_is_signed_so_that_libraries_of_the_specification_verify_it(receiver: Receiver) -> None:
    channel = WebhookChannel(f"{receiver.url}/hook?token=x", secrets=[SECRET, OTHER_SECRET])
    await channel.tell([telling()])
    await channel.aclose()
    (got,) = receiver.requests
    assert got.path == "/hook?token=x"
    for secret in (SECRET, OTHER_SECRET):
        Webhook(secret).verify(got.body, dict(got.headers))
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(got.body.replace(b"0.193", b"0.913"), dict(got.headers))
    assert got.json["type"] == "alert.opened"
    assert got.json["data"]["line"].startswith("ALERT prediction_accuracy lower than 0.3, {'name': 'Mistral'")
    assert got.json["data"]["subject"] == "model:Mistral/v1"
    assert got.json["data"]["description"] == "Too often wrong."


async def test_the_documented_verification_takes_what_is_sent_and_nothing_else(receiver: Receiver) -> None:
    channel = WebhookChannel(receiver.url, secrets=[SECRET])
    await channel.tell([telling()])
    await channel.aclose()
    (got,) = receiver.requests
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scope: dict[str, object] = {"base64": base64, "hashlib": hashlib, "hmac": hmac}
    exec(example, scope)  # noqa: S102  # the page's own example
    verify = scope["is_genuine"]
    assert callable(verify)
    assert verify(SECRET, got.headers, got.body)
    assert not verify(SECRET, got.headers, got.body + b" ")
    assert not verify(OTHER_SECRET, got.headers, got.body)
    old = {**got.headers, "webhook-timestamp": str(int(time.time()) - 3600)}
    assert not verify(SECRET, old, got.body)


async def test_each_attempt_to_tell_the_same_has_the_same_id_and_anything_else_another(receiver: Receiver) -> None:
    channel = WebhookChannel(receiver.url)
    one = telling()
    worse = replace(one, notice=notice_of(replace(alert_of(Subject.biller("B1"), "error-rate"), told=20.0)))
    for each in (one, replace(one, at_ms=NOW + 60_000), telling("resolved"), worse, replace(worse, occasion="worse")):
        await channel.tell([each])
    await channel.aclose()
    first, again, *others = [got.headers["webhook-id"] for got in receiver.requests]
    assert first == again
    assert len({first, *others}) == 4
    assert all(re.fullmatch(r"msg_[0-9a-f]{32}", one) for one in (first, *others))


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 410, 429, 500, 503])
async def test_whatever_is_not_taken_is_not_told(receiver: Receiver, status: int) -> None:
    with Receiver() as elsewhere:
        receiver.answer = lambda _: Answer(status, b"no", {"location": elsewhere.url})
        channel = WebhookChannel(receiver.url, authorization="Bearer secret")
        with pytest.raises(DeliveryError, match=f"HTTP {status}"):
            await channel.tell([telling()])
        await channel.aclose()
        assert elsewhere.requests == []
    assert receiver.requests[0].headers["authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("0", 0.0), ("999999999", 300.0), ("-5", None), ("soon", None), ("", None), ("nan", None)],
)
async def test_who_asks_for_time_is_given_it_within_reason(
    receiver: Receiver, text: str, seconds: float | None
) -> None:
    receiver.answer = lambda _: Answer(429, headers={"retry-after": text})
    channel = WebhookChannel(receiver.url)
    with pytest.raises(DeliveryError) as refused:
        await channel.tell([telling()])
    await channel.aclose()
    assert refused.value.wait_seconds == seconds


async def test_a_moment_to_come_back_at_is_understood(receiver: Receiver) -> None:
    moment = email.utils.formatdate(time.time() + 100, usegmt=True)
    receiver.answer = lambda _: Answer(503, headers={"retry-after": moment})
    channel = WebhookChannel(receiver.url)
    with pytest.raises(DeliveryError) as refused:
        await channel.tell([telling()])
    await channel.aclose()
    assert refused.value.wait_seconds is not None
    assert 90 <= refused.value.wait_seconds <= 101


async def test_an_answer_without_end_is_read_no_further_than_anybody_needs(receiver: Receiver) -> None:
    receiver.answer = lambda _: Answer(200, b"x" * 20_000_000)
    channel = WebhookChannel(receiver.url)
    started = time.monotonic()
    await channel.tell([telling()])
    await channel.aclose()
    assert time.monotonic() - started < 5


async def test_an_answer_that_does_not_come_is_waited_for_only_so_long(receiver: Receiver) -> None:
    goes_on = threading.Event()

    def hang(_: object) -> Answer:
        goes_on.wait(30)
        return Answer()

    receiver.answer = hang
    channel = WebhookChannel(receiver.url, timeout_seconds=0.3)
    try:
        with pytest.raises(DeliveryError):
            await channel.tell([telling()])
    finally:
        goes_on.set()
        await channel.aclose()


async def test_an_error_says_what_went_wrong_and_never_the_address(receiver: Receiver) -> None:
    url = f"http://127.0.0.1:{receiver.port}/services/T0/B0/hunter2"
    receiver.answer = lambda _: Answer(403, b"invalid_token")
    channel = WebhookChannel(url)
    with pytest.raises(DeliveryError) as refused:
        await channel.tell([telling()])
    assert "invalid_token" in str(refused.value)
    assert "hunter2" not in repr(refused.value)
    receiver.__exit__(None, None, None)
    with pytest.raises(DeliveryError) as down:
        await channel.tell([telling()])
    await channel.aclose()
    assert "hunter2" not in f"{down.value!r} {down.value.__cause__!r}"


async def test_no_log_of_a_request_shows_its_address(receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    with configured_logs(Settings(log_level="debug")):
        channel = WebhookChannel(f"{receiver.url}/hunter2")
        await channel.tell([telling()])
        await channel.aclose()
    assert len(receiver.requests) == 1
    assert "hunter2" not in "".join(capfd.readouterr())


async def test_alertmanager_is_told_all_that_it_recognises_an_alert_by(receiver: Receiver) -> None:
    channel = AlertmanagerChannel([f"{receiver.url}/prefix/"], interval_seconds=30)
    await channel.tell([telling(), telling(subject=Subject.biller("B1")), telling("resolved")])
    await channel.aclose()
    (got,) = receiver.requests
    assert got.path == "/prefix/api/v2/alerts"
    model, biller, resolved = got.json
    assert model["labels"] == {
        "alertname": "accuracy",
        "subject": "model:Mistral/v1",
        "metric": "prediction-accuracy",
        "severity": "critical",
        "owner": "payments",
        "name": "Mistral",
        "version": "v1",
    }
    assert biller["labels"]["biller"] == "B1"
    assert resolved["labels"] == model["labels"]
    assert model["annotations"]["summary"].startswith("ALERT prediction_accuracy lower than 0.3, ")
    assert model["annotations"]["boundary"] == "0.3"
    assert model["endsAt"] == "2025-11-21T20:01:30Z"
    assert resolved["endsAt"] == "2025-11-21T20:00:00Z"
    assert model["startsAt"] <= resolved["endsAt"]


async def test_one_member_of_a_cluster_is_enough_and_none_is_not(receiver: Receiver) -> None:
    with Receiver() as other:
        other.answer = lambda _: Answer(500)
        channel = AlertmanagerChannel([other.url, receiver.url])
        await channel.tell([telling()])
        assert len(receiver.requests) == len(other.requests) == 1
        receiver.answer = lambda _: Answer(503)
        with pytest.raises(DeliveryError, match=r"member 1: HTTP 500.*member 2: HTTP 503"):
            await channel.tell([telling()])
        await channel.aclose()


class Mailbox(MessageHandler):
    """What a mail server was given."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[email.message.Message] = []

    def handle_message(self, message: email.message.Message) -> None:
        self.messages.append(message)


# Apprise loads a module of the standard library that Python 3.13 has no more, and has its own in its place there.
imghdr = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


@imghdr
async def test_an_e_mail_reaches_a_mail_server() -> None:
    from stream.channels.services import ServiceChannel

    mailbox = Mailbox()
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox), "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        url = f"mailto://127.0.0.1:{port}?from=tidemark@example.org&to=ops@example.org&mode=insecure"
        channel = ServiceChannel(url, timeout_seconds=20)
        await channel.tell([telling()])
        await channel.tell([telling("resolved")])
        await channel.aclose()
    finally:
        server.close()
        await server.wait_closed()
    opened, resolved = mailbox.messages
    assert opened["subject"] == "[critical] prediction-accuracy of model:Mistral/v1"
    assert resolved["subject"] == "[resolved] prediction-accuracy of model:Mistral/v1"
    assert "ops@example.org" in opened["to"]
    body = email.message_from_bytes(opened.as_bytes(), policy=email.policy.default).get_body(("plain",))
    assert body is not None
    assert "ALERT prediction_accuracy lower than 0.3, {'name': 'Mistral'" in body.get_content()


@imghdr
async def test_a_chat_service_is_told_and_one_that_refuses_was_not(receiver: Receiver) -> None:
    from stream.channels.services import ServiceChannel

    channel = ServiceChannel(f"json://127.0.0.1:{receiver.port}/chat")
    await channel.tell([telling()])
    (got,) = receiver.requests
    assert got.json["title"] == "[critical] prediction-accuracy of model:Mistral/v1"
    assert got.json["type"] == "failure"
    receiver.answer = lambda _: Answer(500)
    with pytest.raises(DeliveryError):
        await channel.tell([telling()])


@imghdr
async def test_a_service_that_hangs_does_not_take_thread_after_thread(receiver: Receiver) -> None:
    from stream.channels.services import ServiceChannel

    goes_on = threading.Event()

    def hang(_: object) -> Answer:
        goes_on.wait(30)
        return Answer()

    receiver.answer = hang
    channel = ServiceChannel(f"json://127.0.0.1:{receiver.port}/chat?rto=30")

    async def tell() -> None:
        async with asyncio.timeout(0.5):
            await channel.tell([telling()])

    def threads() -> int:
        return sum(one.name == "tidemark-service" for one in threading.enumerate())

    try:
        for _ in range(channel.parallel):
            with pytest.raises(TimeoutError):
                await tell()
        with pytest.raises(DeliveryError, match="still hang"):
            await tell()
        assert threads() == channel.parallel
    finally:
        goes_on.set()
    await until(lambda: threads() == 0)
    receiver.answer = lambda _: Answer()
    await channel.tell([telling()])

"""Why brokers do not let us in: the client's own error says that none could be reached, whatever the reason was."""

import asyncio
import ssl
from contextlib import suppress
from typing import Final

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from state.brokers import Brokers

_SETTING: Final = "TIDEMARK_KAFKA"
_PORT: Final = 9092
_CLOSING_SECONDS: Final = 1.0
_CLOSED: Final = (KafkaConnectionError, ConnectionResetError, ConnectionAbortedError)


async def refusal(brokers: Brokers, *, within_seconds: float = 5.0) -> str | None:
    """Which broker refuses us, why, and what to do about it; None where that is not what is wrong.

    Asks the brokers once more, one after the other, without waiting for those that do not answer.
    """
    for host, port in map(_place, brokers.hosts.split(",")):
        connection: AIOKafkaConnection | None = None
        try:
            try:
                async with asyncio.timeout(within_seconds):
                    connection = await create_conn(
                        host, port, request_timeout_ms=round(within_seconds * 1000), **brokers.security()
                    )
                    # The first that a broker refuses to answer where it wants to know more of us.
                    await connection.send(MetadataRequest([]))
            finally:
                # Not within the time to answer: however long that takes, what was said before stays.
                if connection is not None:
                    await _close(connection)
        # TimeoutError is one of OSError.
        except (KafkaError, OSError) as error:
            said = _explained(brokers, error)
            if said is None or (isinstance(error, _CLOSED) and not await _is_there(host, port, within_seconds)):
                continue
            return f"{host}:{port} {said}"
    return None


async def _is_there(host: str, port: int, within_seconds: float) -> bool:
    """Whether anybody answers: in front of a broker that is away, a balancer takes connections and closes them."""
    try:
        async with asyncio.timeout(within_seconds):
            # A listener without TLS says which versions it speaks before it wants to know who asks.
            connection = await create_conn(host, port, request_timeout_ms=round(within_seconds * 1000))
        await _close(connection)
        return True
    except (KafkaError, OSError):
        pass
    # Whoever it is: nothing is told to it.
    anybody = ssl.create_default_context()
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(within_seconds):
            _, writer = await asyncio.open_connection(host, port, ssl=anybody)
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        return False
    except ssl.SSLError:
        # Refused, in the words of TLS.
        return True
    except OSError:
        return False
    writer.close()
    # What it says of our leaving says nothing of whether it is there.
    with suppress(TimeoutError, OSError):
        async with asyncio.timeout(_CLOSING_SECONDS):
            await writer.wait_closed()
    return True


async def _close(connection: AIOKafkaConnection) -> None:
    """Not before it is closed: whoever asks may end the loop next, and TLS takes its leave in more than one turn."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSING_SECONDS):
            await connection.close()


async def reason(brokers: Brokers, error: BaseException, *, within_seconds: float = 2.0) -> str:
    """What to say of a client's error: why the brokers refuse us, where they do."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    refused = await refusal(brokers, within_seconds=within_seconds) if isinstance(error, KafkaConnectionError) else None
    # The text of the library's errors begins with their name.
    return refused or (str(error) if isinstance(error, KafkaError) else f"{type(error).__name__}: {error}")


def _explained(brokers: Brokers, error: Exception) -> str | None:
    match error:
        case ssl.SSLError():
            return _of_tls(brokers, error)
        case UnsupportedSaslMechanismError():
            return f"does not take {brokers.mechanism}: set {_SETTING}_SASL_MECHANISM to one that it takes"
        case IllegalSaslStateError():
            return f"asks nobody for a user on this port, and {_protocol(brokers)}"
        case SaslAuthenticationFailed() | AuthenticationFailedError():
            return (
                f"does not take the user {brokers.username!r} with this password: correct {_SETTING}_USERNAME and "
                f"{_SETTING}_PASSWORD, or {_SETTING}_SASL_MECHANISM, which is {brokers.mechanism}"
            )
        case _ if isinstance(error, _CLOSED):
            return f"closes the connection: {_wanted(brokers)}"
        case _:
            return None


def _of_tls(brokers: Brokers, error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        whom = brokers.certificates.ca or "the CAs of this system"
        return (
            f"has a certificate that is not believed, by {whom} ({error.verify_message}): set {_SETTING}_CA_FILE to "
            "the CA that signed it, and name the broker as its certificate does"
        )
    if "ALERT" in (error.reason or ""):
        return (
            f"does not take our certificate ({error.reason}): set {_SETTING}_CERTIFICATE_FILE and {_SETTING}_KEY_FILE "
            "to ones that its CA signed"
        )
    return f"does not speak TLS as we do ({error.reason}), and {_protocol(brokers)}"


def _wanted(brokers: Brokers) -> str:
    """What it may be that is missing; a broker that closes does not say."""
    if brokers.protocol == "SSL" and brokers.certificates.certificate is None:
        return f"it may want a certificate of ours ({_SETTING}_CERTIFICATE_FILE), or a user, and {_protocol(brokers)}"
    if brokers.protocol == "SSL":
        return f"it may not take our certificate, {brokers.certificates.certificate}, or want a user"
    if brokers.protocol == "PLAINTEXT":
        return f"it may want TLS or a user, and {_protocol(brokers)}"
    return f"this port may be of another kind, and {_protocol(brokers)}"


def _protocol(brokers: Brokers) -> str:
    return f"{_SETTING}_SECURITY_PROTOCOL is {brokers.protocol}"


def _place(text: str) -> tuple[str, int]:
    host, _, port = text.strip().rpartition(":")
    return (host.strip("[]"), int(port)) if host and port.isdecimal() else (text.strip(), _PORT)

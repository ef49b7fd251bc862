"""What Faust is told to be let in by the brokers: it passes it on to aiokafka, in words of its own."""

import faust
from faust.types.auth import CredentialsT, SASLMechanism

from state.brokers import Brokers


def faust_credentials(brokers: Brokers) -> CredentialsT | None:
    """The same as `Brokers.options`; None where nobody is asked and nothing is encrypted."""
    context = brokers.certificates.context() if brokers.is_encrypted else None
    if brokers.is_asked_for_user:
        return faust.SASLCredentials(
            username=brokers.username,
            password=brokers.password,
            ssl_context=context,
            mechanism=SASLMechanism(brokers.mechanism),
        )
    return None if context is None else faust.SSLCredentials(context)

"""How stored offsets name where they count: the partition of a topic, in one life of one log."""


def source_of(log_id: str, topic: str, partition: int, *, life: int = 0) -> str:
    """`kafka/calls/3`; with its life, `kafka.1/calls/3`, for a topic that was made anew."""
    return f"{log_id}.{life}/{topic}/{partition}" if life else f"{log_id}/{topic}/{partition}"

"""Files of `tidemark state export`: whatever is in them, a line is named that is wrong, or the state is read.

A file has a check in each line and a digest in the last, which no mutation hits. So an input is the lines without them,
and is read twice: as it is, and with the checks that make a file of it.
"""

import hashlib
from collections.abc import Iterable

import orjson

from detection.errors import InputError
from state.export import MODELS, Exported, Header, Reader, Writer, keys_of
from state.store import Reached
from tests.contract.states import POLICY
from tests.fuzz.targets.living import Hashes, endures
from tests.fuzz.targets.states import known

_CHECK = b',"check":"'


def check(data: bytes) -> None:
    """Raise for any other error than one that names a line, and for what was read and cannot be written again."""
    lines = data.splitlines(keepends=True)
    read_all(lines)
    found = read_all(sealed(lines))
    for one in found:
        try:
            state = one.state(POLICY)
        except InputError as error:
            assert str(error).startswith("line ")
            continue
        assert one.subject == state.subject
        assert (one.rev, one.watermark_ms) == (state.rev, state.watermark_ms)
        again = written([one])
        assert [other.parts for other in read_all(again)] == [without_empty(one)]
        endures(state, stored(one))


def without_empty(one: Exported) -> dict[str, dict[bytes, bytes]]:
    """A hash without fields is none."""
    return {part: fields for part, fields in one.parts.items() if fields}


def stored(one: Exported) -> Hashes:
    """As an import would put it."""
    return dict(zip(keys_of(one.subject, one.parts), (dict(it) for it in one.parts.values()), strict=True))


def read_all(lines: Iterable[bytes]) -> list[Exported]:
    """The subjects up to the first line that is wrong."""
    found: list[Exported] = []
    try:
        found.extend(Reader(lines).subjects())
    except InputError as error:
        assert str(error).startswith("line ")
    return found


def sealed(lines: list[bytes]) -> list[bytes]:
    """The same lines with their checks, and a last one that counts them."""
    digest = hashlib.sha256()
    done = []

    def seal(text: bytes) -> None:
        check = hashlib.blake2b(text, digest_size=8).hexdigest().encode()
        digest.update(check)
        done.append(text[:-1] + _CHECK + check + b'"}\n')

    bare = [line.strip() for line in lines if line.strip().endswith(b"}")]
    for text in bare:
        seal(text)
    seal(orjson.dumps({"subjects": max(len(bare) - 1, 0), "digest": digest.hexdigest()}))
    return done


def written(subjects: Iterable[Exported]) -> list[bytes]:
    """As an export writes them."""
    writer = Writer()
    header = writer.header(Header("kafka", "2026-01-01T00:00:00Z", progress={"kafka/calls/0": Reached(5, 7, "ab")}))
    return [header, *(writer.subject(one.subject, one.parts) for one in subjects), writer.trailer()]


def bare(lines: Iterable[bytes]) -> bytes:
    """A file's lines, without checks and without the last one."""
    *some, _ = [line[: line.rindex(_CHECK)] + b"}\n" for line in lines]
    return b"".join(some)


def seeds() -> list[bytes]:
    """Exports of a subject or two, with and without what they learned."""
    subjects = [Exported(2, subject, dict(parts)) for subject, parts in known()]
    light = [
        Exported(2, one.subject, {part: fields for part, fields in one.parts.items() if part != MODELS})
        for one in subjects
    ]
    return [
        *(bare(written([one])) for one in light),
        *(bare(written([one])) for one in (subjects[0], subjects[2])),
        bare(written([light[0], light[2]])),
        bare(written([light[2], light[0]])),
        bare(written([])),
        b"".join(written([])),
    ]

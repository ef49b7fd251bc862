"""Snapshots of the learned state in object storage: export files cut into pieces that the next snapshot can use again.

    snapshots/20261122T140000.000Z.json            a manifest: what belongs together; written last
    indexes/20261122T140000.000Z/00000.ndjson.zst  where each subject's line is, in the order of the subjects
    segments/SHA-256.ndjson.zst                    lines of subjects (`state.export`), in blocks that unpack alone
    locks/0000000001.json                          who writes, and until when

The header of the manifest, the lines in the order of the index and the trailer of the manifest are, byte for byte, what
`tidemark state export` would have written. A segment is called by its content, and never changes.
"""

"""What a split holds, as one short text: equal for equal shards, wherever they are, whatever notes their index has."""

import hashlib
import json

from quell.shards.format.index import IndexHeader

_VERSION = 1


def content_fingerprint(header: IndexHeader) -> str:
    """The fingerprint of a split by its index: names, sizes, samples and checksums of the shards and of their members.

    Returns:
        `version:hash:checksum`; the last is the CRC-32 of the whole index table, and `-` where that is not known.
    """
    shards = [[shard[key] for key in ("name", "size", "head", "tail", "samples")] for shard in header["shards"]]
    table = header["table"]
    content = json.dumps([shards, table["size"], table["head"], table["tail"]])
    whole = "-" if table["whole"] is None else str(table["whole"])
    return f"{_VERSION}:{hashlib.sha256(content.encode()).hexdigest()[:32]}:{whole}"


def same_content(recorded: object, current: str) -> bool:
    """Whether two fingerprints can be of the same content; one that was not recorded, or otherwise, can be of any."""
    if not isinstance(recorded, str) or recorded.count(":") != 2:
        return True
    (version, content, whole), (own_version, own_content, own_whole) = recorded.split(":"), current.split(":")
    if version != own_version:
        return True
    return content == own_content and (whole == own_whole or "-" in (whole, own_whole))

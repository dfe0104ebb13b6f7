"""Object keys: what a key may be.

Lives here: the allow-list of keys. Does not live here: what keys mean (`partition_store`).
"""

import re

# One path segment: what our asset keys, partitions, hashes and attachment names are made of.
SEGMENT_PATTERN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=^-]{0,127}")

MAX_KEY_LENGTH = 512


def check_key(key: str) -> str:
    """Refuse a key that could leave the root or confuse a file system.

    Raises
    ------
    ValueError
        For absolute paths, `..`, NUL, empty or overlong segments and characters outside the allow-list.
    """
    segments = key.split("/")
    if len(key) > MAX_KEY_LENGTH or not all(SEGMENT_PATTERN.fullmatch(s) and ".." not in s for s in segments):
        raise ValueError(
            f"`key` must be segments of letters, digits and _.=^- joined by '/', at most {MAX_KEY_LENGTH} characters, "
            f"was {key[:80]!r}."
        )
    return key


def is_segment(name: str) -> bool:
    return bool(SEGMENT_PATTERN.fullmatch(name)) and ".." not in name


def is_key(name: str) -> bool:
    return len(name) <= MAX_KEY_LENGTH and all(is_segment(each) for each in name.split("/"))

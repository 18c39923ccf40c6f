"""Lease records that no worker has written: what people, other programs and broken disks leave behind."""

from __future__ import annotations

from providers.body import encode

_GOOD = {"term": 7, "holder": "a", "duration": 15, "renewals": 0}

GARBLED = (
    b"",
    b"\x00\xff garbage",
    b"[]",
    b"{}",
    b'{"format": 1}',
    *(
        encode({**_GOOD, name: wrong})
        for name, wrong in (
            ("term", "7"),
            ("term", -7),
            ("holder", ["a"]),
            ("renewals", 10**400),
            ("duration", -1),
            ("duration", 61),
            ("duration", 10**400),
        )
    ),
    *(
        encode(_GOOD)[:-1] + b',"later":' + wrong
        for wrong in (b"Infinity}", b"1e999}", b"9" * 5000 + b"}", b"[" * 5000)
    ),
)
"""Bodies of a lease's object. Each is damage, and nothing that stops whoever reads it."""

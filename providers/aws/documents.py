"""Documents as S3 objects, written under conditions only.

An ETag is the version: echoed, never computed. It is often a hash of the body, so that two equal bodies are one
version; every writer of ours puts a nonce into its body.

A delete names its version too. AWS compares it; some servers that speak S3 ignore that condition, or refuse it as
unknown (501), and there the version is compared first and the object deleted then: two requests, with a moment in
between in which somebody else's write could be deleted. Nothing that elects or assigns is ever deleted; what is
(left members, old records, probes) has no other writer.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from providers.aws.clients import Clients
from providers.aws.errors import Request, check_answer, code_of, translated
from providers.http_date import unix_seconds
from providers.interface import Document, Page, Refused, Stamp, Version

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE = 1000
"""Keys on one page: as many as S3 gives."""


class S3Documents:
    """`interface.Documents` under one prefix of one bucket."""

    def __init__(self, clients: Clients, bucket: str, prefix: str, *, page: int = PAGE) -> None:
        self._clients, self._bucket, self._prefix, self._page = clients, bucket, prefix, page

    def read(self, key: str, *, unless: Version | None = None) -> Document | None:
        """See `interface.Documents.read`."""
        asked = self._request("GetObject", key, changes=False)
        given: dict[str, Any] = {} if unless is None else {"IfNoneMatch": unless}
        with translated(asked):
            try:
                answer = self._clients.s3.get_object(Bucket=self._bucket, Key=self._prefix + key, **given)
                # Not `with answer["Body"]`, which gives out the stream below it: its errors are urllib3's own.
                with closing(answer["Body"]) as body:
                    check_answer(asked, answer, "ETag")
                    return Document(_stamp(key, answer), body.read())
            except ClientError as exc:
                if code_of(exc)[1] == 304:
                    return None
                raise

    def create(self, key: str, body: bytes) -> Stamp:
        """See `interface.Documents.create`."""
        return self._put(key, body, IfNoneMatch="*")

    def replace(self, old: Stamp, body: bytes) -> Stamp:
        """See `interface.Documents.replace`."""
        return self._put(old.key, body, IfMatch=old.version)

    def delete(self, old: Stamp) -> None:
        """See `interface.Documents.delete`, and above for stores that do not compare."""
        asked = self._request("DeleteObject", old.key, changes=True, conditional=True)
        where: dict[str, Any] = {"Bucket": self._bucket, "Key": self._prefix + old.key}
        self._compare(old)
        with translated(asked):
            try:
                self._clients.s3.delete_object(**where, IfMatch=old.version)
            except ClientError as exc:
                if code_of(exc)[1] != 501:
                    raise
                self._clients.s3.delete_object(**where)

    def list(self, prefix: str, *, after: str | None = None) -> Page:
        """See `interface.Documents.list`."""
        asked = self._request("ListObjectsV2", prefix, changes=False)
        start: dict[str, Any] = {} if after is None else {"StartAfter": self._prefix + after}
        with translated(asked):
            answer = self._clients.s3.list_objects_v2(
                Bucket=self._bucket, Prefix=self._prefix + prefix, MaxKeys=self._page, **start
            )
        check_answer(asked, answer, "IsTruncated")
        cut = len(self._prefix)
        found = answer.get("Contents", ())
        for item in found:
            check_answer(asked, item, "Key", "ETag")
        stamps = [Stamp(item["Key"][cut:], Version(item["ETag"])) for item in found]
        stamps.sort(key=lambda stamp: stamp.key.encode())
        return Page(stamps, stamps[-1].key if answer["IsTruncated"] and stamps else None)

    def _put(self, key: str, body: bytes, **condition: Any) -> Stamp:
        asked = self._request("PutObject", key, changes=True, conditional="IfMatch" in condition)
        with translated(asked):
            answer = self._clients.s3.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=body, ContentType="application/json", **condition
            )
        check_answer(asked, answer, "ETag")
        return _stamp(key, answer)

    def _compare(self, old: Stamp) -> None:
        """Refuse at once what the server may not compare; see above."""
        asked = self._request("GetObject", old.key, changes=False)  # HEAD needs the same permission
        with translated(asked):
            try:
                found = self._clients.s3.head_object(Bucket=self._bucket, Key=self._prefix + old.key)
            except ClientError as exc:
                if code_of(exc)[1] == 404:
                    raise Refused(f"{old.key} is gone") from exc
                raise
        check_answer(asked, found, "ETag")
        if found["ETag"] != old.version:
            raise Refused(f"{old.key} has changed")

    def _request(self, operation: str, key: str, *, changes: bool, conditional: bool = False) -> Request:
        where = f"s3://{self._bucket}/{self._prefix}{key}"
        meta = self._clients.s3.meta
        bucket = f"arn:{meta.partition}:s3:::{self._bucket}"
        permission = "s3:ListBucket" if operation == "ListObjectsV2" else f"s3:{operation}"
        scope = "" if operation == "ListObjectsV2" else f"/{self._prefix}*"
        needs = f"{permission} on {bucket}{scope}"
        if operation == "GetObject":
            needs += f" (and s3:ListBucket on {bucket}: without it S3 denies what does not exist)"
        return Request(
            what=f"{operation} {where}",
            endpoint=meta.endpoint_url,
            changes=changes,
            needs=needs,
            conditional=conditional,
            region=meta.region_name,
        )


def _stamp(key: str, answer: Mapping[str, Any]) -> Stamp:
    told = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return Stamp(key, Version(answer["ETag"]), unix_seconds(told))

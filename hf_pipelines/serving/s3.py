"""S3 server of `hfp stack`: moto's, with its objects kept in a folder and closed to whoever lacks the access key.

Lives here: the program `python -m hf_pipelines.serving.s3` (a WSGI layer round moto's application). Does not live here:
the S3 protocol, which is moto's; and what speaks it (`object_store`, dagster-aws).

moto keeps objects in memory only, and answers every caller: a page open in a browser could read, write or reset it. Here a
write is answered after the object is on disk, and a request must name the access key, which is random and secret. That
is less than a signature: enough for one machine, not for a network. Production uses MinIO or AWS.
"""

import argparse
import hmac
import logging
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import Any
from urllib.parse import quote, unquote

# Objects above this size leave moto's memory for a temporary file.
BUFFER_BYTES = 1 << 20
# File systems allow 255 bytes a name.
MAX_NAME = 200
CREDENTIAL = re.compile(r"Credential=([^/,&\s]+)/")

StartResponse = Callable[..., Any]
Application = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class ObjectFolder:
    """Objects of moto's backend as files of a folder for each bucket.

    A key is quoted, so that none leaves the folder, and cut where a file name would be too long: folders of the path
    begin with `d`, the file with `k`, and a file that is being written with a dot.
    """

    def __init__(self, folder: Path) -> None:
        from moto.core import DEFAULT_ACCOUNT_ID
        from moto.s3.models import s3_backends

        self.folder = folder
        # Of two writes of one key the later one is also written to disk later.
        self._writing = Lock()
        self.backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        folder.mkdir(parents=True, exist_ok=True)

    def load(self) -> int:
        """Give moto what the folder holds; returns the number of objects."""
        n_objects = 0
        for bucket in sorted(self.folder.iterdir()):
            self.backend.create_bucket(bucket.name, "us-east-1")
            for file in sorted(bucket.rglob(".*")):
                # Left by a server that was killed while it wrote.
                file.unlink()
            for key, file in _files(bucket).items():
                held = self.backend.put_object(bucket.name, key, file.read_bytes())
                held.last_modified = datetime.fromtimestamp(file.stat().st_mtime, held.last_modified.tzinfo)
                n_objects += 1
        return n_objects

    def keep(self, bucket: str, key: str | None) -> None:
        """Bring the folder to what moto holds now of one object, or of a bucket that lost some."""
        with self._writing:
            self._keep(bucket, key)

    def _keep(self, bucket: str, key: str | None) -> None:
        folder = self.folder / bucket
        if bucket not in self.backend.buckets:
            shutil.rmtree(folder, ignore_errors=True)
            return
        folder.mkdir(exist_ok=True)
        held = self.backend.buckets[bucket].keys
        if key is None:
            for gone, file in _files(folder).items():
                if gone not in held:
                    file.unlink(missing_ok=True)
            return
        file = _file(folder, key)
        # A deleted version is a marker without content.
        content = getattr(held.get(key), "value", None)
        if content is None:
            file.unlink(missing_ok=True)
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=file.parent, prefix=".", delete=False) as written:
            written.write(content)
        os.replace(written.name, file)


def _file(folder: Path, key: str) -> Path:
    name = quote(key, safe="")
    chunks = [name[start : start + MAX_NAME] for start in range(0, len(name), MAX_NAME)]
    return folder.joinpath(*(f"d{chunk}" for chunk in chunks[:-1]), f"k{chunks[-1]}")


def _files(folder: Path) -> dict[str, Path]:
    found = {file: file.relative_to(folder).parts for file in folder.rglob("k*") if file.is_file()}
    return {unquote("".join(part[1:] for part in parts)): file for file, parts in sorted(found.items())}


class KeptAndClosed:
    """WSGI layer: refuses requests without the access key, and keeps what the others wrote."""

    def __init__(self, application: Application, objects: ObjectFolder, access_key: str) -> None:
        self.application = application
        self.objects = objects
        self.access_key = access_key

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if not self._names_access_key(environ):
            start_response("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>unknown access key</Message></Error>"]
        status = [""]

        def answer(given: str, *arguments: Any) -> Any:
            status[0] = given
            return start_response(given, *arguments)

        body = list(self.application(environ, answer))
        if environ["REQUEST_METHOD"] in ("PUT", "POST", "DELETE") and status[0].startswith("2"):
            # WSGI hands over the path's bytes as Latin-1.
            path = environ["PATH_INFO"].encode("latin-1").decode()
            bucket, _, key = path.lstrip("/").partition("/")
            self.objects.keep(bucket, key or None)
        return body

    def _names_access_key(self, environ: dict[str, Any]) -> bool:
        signed = environ.get("HTTP_AUTHORIZATION", "")
        presigned = unquote(environ.get("QUERY_STRING", "")).replace("X-Amz-Credential=", "Credential=")
        found = CREDENTIAL.search(signed) or CREDENTIAL.search(presigned)
        return found is not None and hmac.compare_digest(found[1].encode(), self.access_key.encode())


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="hf_pipelines.serving.s3", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--bucket", required=True)
    options = parser.parse_args(arguments)
    os.environ.setdefault("MOTO_S3_DEFAULT_KEY_BUFFER_SIZE", str(BUFFER_BYTES))

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from werkzeug.serving import run_simple

    class SilentHandler(MotoRequestHandler):  # type: ignore[misc]
        """A line for each request would fill the log, presigned addresses included."""

        def log_request(self, *arguments: Any) -> None:
            pass

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    objects = ObjectFolder(options.folder)
    n_objects = objects.load()
    if options.bucket not in objects.backend.buckets:
        objects.backend.create_bucket(options.bucket, "us-east-1")
        objects.keep(options.bucket, None)
    print(f"{n_objects} objects loaded from {options.folder}", flush=True)
    application = KeptAndClosed(
        DomainDispatcherApplication(create_backend_app), objects, os.environ["AWS_ACCESS_KEY_ID"]
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    run_simple("127.0.0.1", options.port, application, threaded=True, request_handler=SilentHandler)


if __name__ == "__main__":
    main()

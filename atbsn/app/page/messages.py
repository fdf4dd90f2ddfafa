"""Read the bodies of requests, and make answers with files and errors."""

import json
import os
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from atbsn.app.page.jobs import in_plain_words
from atbsn.app.page.sessions import Upload
from atbsn.utils.errors import UserError

_MAX_BODY = 16_384
"""Bytes: longest body of a request that is no picture. Chosen by hand: settings take a few hundred."""
_CHUNK = 2**20
"""Bytes of a file that are read and sent at a time. Chosen by hand."""


async def receive_file(request: Request, upload: Upload, max_bytes: int) -> None:
    """Write the body of a request to the file of ``upload`` while it arrives.

    Args:
        request: the request.
        upload: the picture.
        max_bytes: most bytes of the body.

    Raises:
        UserError: the body is longer, or empty.
    """
    too_large = UserError(f"{upload.name}: larger than the limit of {max_bytes / 1e6:g} MB; make it smaller")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal() and len(length) < 16) or int(length) > max_bytes:
        raise too_large
    received = 0
    with upload.path.open("xb") as file:
        async for chunk in request.stream():
            received += len(chunk)
            if received > max_bytes:
                raise too_large
            file.write(chunk)
    if not received:
        raise UserError(f"{upload.name}: the file is empty")


async def receive_bytes(request: Request, max_bytes: int) -> bytes:
    """The body of a request.

    Raises:
        UserError: it is longer than ``max_bytes``.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise UserError("the request is too long")
    return bytes(body)


async def receive_json(request: Request) -> dict[str, Any]:
    """The body of a request, which has to be a short JSON object.

    Raises:
        UserError: it is something else.
    """
    body = await receive_bytes(request, _MAX_BODY)
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise UserError("the request is not JSON") from None
    if not isinstance(content, dict):
        raise UserError("the request is not a JSON object")
    return content


def file_answer(file: BinaryIO, name: str) -> Response:
    """An answer with the content of an open file, to be saved as ``name``. The file is closed at the end."""
    headers = {"Content-Length": str(os.fstat(file.fileno()).st_size), **_attached(name)}
    return StreamingResponse(_chunks(file), headers=headers, media_type="application/octet-stream")


def saved_as(data: bytes, name: str) -> Response:
    """An answer with ``data``, to be saved as ``name``."""
    return Response(data, headers=_attached(name), media_type="application/octet-stream")


async def answer_error(status: int, request: Request, error: Exception) -> Response:
    """The answer to an error that the visitor can remedy."""
    del request
    return JSONResponse({"error": str(error)}, status_code=status)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """The answer to an unknown address or method."""
    del request
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": "There is nothing here."}, status_code=error.status_code)


async def answer_fault(request: Request, error: Exception) -> Response:
    """The answer to a fault of the server."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    return JSONResponse({"error": in_plain_words(error)}, status_code=500)


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=utf-8''{quote(name)}"}


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk

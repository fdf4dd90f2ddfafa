"""The server's routes. A session's token is part of its addresses: who does not know it finds nothing."""

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from atbsn.app.page.guard import Guard
from atbsn.app.page.jobs import BusyError, JobQueue, PageJob, in_plain_words
from atbsn.app.page.sessions import Session, Sessions, Upload
from atbsn.app.page.studio import LONGEST, Studio
from atbsn.app.page.views import Region
from atbsn.utils.errors import UserError

STATIC = Path(__file__).parent / "static"
_LONGEST_BODY = 16_384
_CHUNK = 2**20
_SETTINGS = frozenset({"weights", "strength", "luma", "colour", "detail", "k"})


class Page:
    """The handlers, and what they share.

    Args:
        studio: what computes.
        sessions: most pages that are open at once.
        idle: seconds until a page that is not heard of is taken to be closed.
    """

    def __init__(self, studio: Studio, sessions: int = 16, idle: float = 1800) -> None:
        self.studio = studio
        self.jobs = JobQueue()
        self.sessions = Sessions(sessions, idle, self.jobs.forget)

    def application(self, names: tuple[str, ...] = (), loopback: bool = True) -> Guard:
        """The ASGI application; its end deletes everything. The arguments are those of ``Guard``."""
        own = "/api/sessions/{token}"
        picture = own + "/pictures/{picture}"
        routes = [
            Route("/", _index, methods=["GET"]),
            Route("/api/sessions", self.start, methods=["POST"]),
            Route(own, self._of_session(self.describe), methods=["GET"]),
            Route(own + "/end", self.end, methods=["POST"]),
            Route(own + "/pictures", self._of_session(self.upload), methods=["POST"]),
            Route(picture, self._of_session(self.remove), methods=["DELETE"]),
            Route(picture + "/region", self._of_session(self.region), methods=["GET"]),
            Route(picture + "/{kind:str}", self._of_session(self.compute), methods=["POST"]),
            Route(own + "/adapt", self._of_session(self.adapt), methods=["POST"]),
            Route(own + "/jobs/{job}", self._of_session(self.job), methods=["GET"]),
            Route(own + "/jobs/{job}/stop", self._of_session(self.stop), methods=["POST"]),
            Route(own + "/files/{file}", self._of_session(self.file), methods=["GET"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        handlers: dict[Any, Any] = {
            UserError: partial(_answer_error, 400),
            BusyError: partial(_answer_error, 429),
            HTTPException: _answer_http_error,
            Exception: _answer_fault,
        }
        inner = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        return Guard(inner, names, loopback)

    def close(self) -> None:
        """Stop what is computed and delete what is kept."""
        self.jobs.close()
        self.sessions.close()

    async def start(self, request: Request) -> Response:
        """A new session."""
        del request
        session = await run_in_threadpool(self.sessions.start)
        return JSONResponse({"token": session.token, **self.studio.describe(session)}, status_code=201)

    async def describe(self, request: Request, session: Session) -> Response:
        """What the page has to know; also the sign that it is still open."""
        del request
        return JSONResponse(self.studio.describe(session))

    async def end(self, request: Request) -> Response:
        """The page was closed."""
        await run_in_threadpool(self.sessions.end, request.path_params["token"])
        return Response(status_code=204)

    async def upload(self, request: Request, session: Session) -> Response:
        """A picture, whose bytes are the body and whose name is in the query."""
        limits = self.studio.limits
        if len(session.pictures) >= limits.pictures:
            raise UserError(f"There are {limits.pictures} pictures already; remove one first.")
        most = int(limits.megabytes * 1e6)
        upload = session.new_upload(request.query_params.get("name", ""))
        try:
            await _receive(request, upload, most)
            facts = await run_in_threadpool(self.studio.open, session, upload)
        except BaseException:
            shutil.rmtree(upload.path.parent, ignore_errors=True)
            raise
        return JSONResponse(facts, status_code=201)

    async def remove(self, request: Request, session: Session) -> Response:
        """Delete a picture."""
        session.remove(_picture(request, session).id)
        return Response(status_code=204)

    async def region(self, request: Request, session: Session) -> Response:
        """The noisy samples of a part at 1:1."""
        upload = _picture(request, session)
        try:
            values = [int(request.query_params[name]) for name in ("left", "top", "width", "height")]
        except (KeyError, ValueError):
            raise UserError("left, top, width and height are needed, in whole pixels") from None
        region = Region.within(values, upload.facts)
        data = await run_in_threadpool(self.studio.before, upload, region)
        return Response(data, media_type="application/octet-stream")

    async def compute(self, request: Request, session: Session) -> Response:
        """Put a computation on one picture into the queue: ``view``, ``result`` or ``noise``."""
        upload, kind = _picture(request, session), request.path_params["kind"]
        body = await _json(request)
        settings = body.get("settings", {})
        if not isinstance(settings, dict) or not settings.keys() <= _SETTINGS:
            raise UserError(f"settings: {', '.join(sorted(_SETTINGS))} are known")
        work: Callable[[PageJob], Any]
        if kind == "view":
            area = body.get("region")
            region = None if area is None else Region.within(area, upload.facts)
            kind = "view" if region is None else "loupe"
            work = partial(self.studio.view, session, upload, settings, region)
        elif kind == "result":
            suffix = body.get("format")
            if suffix is not None and not isinstance(suffix, str):
                raise UserError("format: one of those that the picture's description offers is needed")
            work = partial(self.studio.result, session, upload, settings, suffix)
        elif kind == "noise" and self.studio.describe(session)["noise"]:
            work = partial(self.studio.noise, upload)
        else:
            raise HTTPException(404)
        return self._queue(session, kind, work)

    async def adapt(self, request: Request, session: Session) -> Response:
        """Put an adaptation to the session's pictures into the queue."""
        if not self.studio.describe(session)["adapt"]:
            raise HTTPException(404)
        minutes = (await _json(request)).get("minutes")
        if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= LONGEST:
            raise UserError(f"minutes: a number up to {LONGEST:g} is needed")
        return self._queue(session, "adapt", partial(self.studio.adapt, session, float(minutes)))

    async def job(self, request: Request, session: Session) -> Response:
        """How a computation is getting on."""
        job = self._job(request, session)
        state = {"id": job.id, "state": job.state, "share": job.share, "message": job.message, "result": job.result}
        return JSONResponse({**state, "position": self.jobs.position(job)})

    async def stop(self, request: Request, session: Session) -> Response:
        """End a computation."""
        self.jobs.stop(self._job(request, session))
        return Response(status_code=204)

    async def file(self, request: Request, session: Session) -> Response:
        """A file that a computation made, by its id."""
        entry = session.files.get(request.path_params["file"])
        if entry is None:
            raise HTTPException(404)
        try:
            file = await run_in_threadpool(entry[0].open, "rb")  # from here on it may be deleted
        except FileNotFoundError:
            raise HTTPException(404) from None
        size = os.fstat(file.fileno()).st_size
        headers = {
            "Content-Length": str(size),
            "Content-Disposition": f"attachment; filename*=utf-8''{quote(entry[1])}",
        }
        return StreamingResponse(_chunks(file), headers=headers, media_type="application/octet-stream")

    def _job(self, request: Request, session: Session) -> PageJob:
        job = self.jobs.get(session.token, request.path_params["job"])
        if job is None:
            raise HTTPException(404)
        return job

    def _queue(self, session: Session, kind: str, work: Callable[[PageJob], Any]) -> Response:
        job = self.jobs.add(session.token, kind, work, replace=kind in ("view", "loupe"))
        return JSONResponse({"id": job.id}, status_code=202)

    def _of_session(self, handler: Callable[[Request, Session], Any]) -> Callable[[Request], Any]:
        async def handle(request: Request) -> Response:
            session = self.sessions.get(request.path_params["token"])
            if session is None:
                message = "This page was not used for long, or the server was started anew. Reload it."
                return JSONResponse({"error": message, "over": True}, status_code=404)
            return await handler(request, session)

        return handle

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        del app
        watch = asyncio.create_task(self._expire())
        try:
            yield
        finally:
            watch.cancel()
            await run_in_threadpool(self.close)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(min(60, self.sessions.idle))
            await run_in_threadpool(self.sessions.expire)


async def _index(request: Request) -> Response:
    del request
    return FileResponse(STATIC / "index.html")


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK):
            yield chunk


async def _receive(request: Request, upload: Upload, most: int) -> None:
    """Write the body to the disk as it comes."""
    too_large = UserError(f"{upload.name}: larger than the limit of {most / 1e6:g} MB; make it smaller")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal() and len(length) < 16) or int(length) > most:
        raise too_large
    received = 0
    with upload.path.open("xb") as file:
        async for chunk in request.stream():
            received += len(chunk)
            if received > most:
                raise too_large
            file.write(chunk)
    if not received:
        raise UserError(f"{upload.name}: the file is empty")


async def _json(request: Request) -> dict[str, Any]:
    """The body: a JSON object of a few bytes."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_BODY:
            raise UserError("the request is too long")
    try:
        content = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise UserError("the request is not JSON") from None
    if not isinstance(content, dict):
        raise UserError("the request is not a JSON object")
    return content


def _picture(request: Request, session: Session) -> Upload:
    upload = session.pictures.get(request.path_params["picture"])
    if upload is None:
        raise HTTPException(404)
    return upload


async def _answer_error(status: int, request: Request, error: Exception) -> Response:
    del request
    return JSONResponse({"error": str(error)}, status_code=status)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": "There is nothing here."}, status_code=error.status_code)


async def _answer_fault(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        return Response(status_code=499)
    return JSONResponse({"error": in_plain_words(error)}, status_code=500)

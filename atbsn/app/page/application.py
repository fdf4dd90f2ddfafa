"""The server's routes. The addresses of a session contain its token, so only the visitor who knows it can use them."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from atbsn.app.page import messages
from atbsn.app.page.guard import Guard
from atbsn.app.page.jobs import BusyError, JobQueue, PageJob
from atbsn.app.page.regions import mask_file
from atbsn.app.page.sessions import Session, Sessions, Upload
from atbsn.app.page.studio import MAX_MINUTES, Studio
from atbsn.app.page.views import Region
from atbsn.utils.errors import UserError

STATIC = Path(__file__).parent / "static"
"""Folder of the files that the browser loads."""
_SETTINGS = frozenset({"weights", "strength", "luma", "colour", "detail", "k"})
"""Settings that the browser may send."""
_AWAITED = frozenset({"result", "all", "adapt"})
"""Kinds of computations that a reloaded page continues to wait for. It requests views again."""
_LOOK = 15.0
"""Seconds between two searches for closed pages. Chosen by hand."""


class Page:
    """The handlers of all routes, and what they share.

    Args:
        studio: computes.
        sessions: most pages that are open at the same time.
        idle: seconds without a request after which a page counts as closed.
        grace: seconds after which the pictures of a closed page are deleted. Reloading the page must take less, and so
            must the minute between two requests of a hidden tab, since several tabs may share a session.
    """

    def __init__(self, studio: Studio, sessions: int = 16, idle: float = 1800, grace: float = 90) -> None:
        self.studio = studio
        self.jobs = JobQueue()
        self.sessions = Sessions(sessions, idle, grace, self.jobs.forget)

    def application(self, names: tuple[str, ...] = (), loopback: bool = True) -> Guard:
        """The ASGI application. When it ends, all files of visitors are deleted. The arguments are as in ``Guard``."""
        own = "/api/sessions/{token}"
        picture = own + "/pictures/{picture}"
        routes = [
            Route("/", _index, methods=["GET"]),
            Route("/api/sessions", self.start, methods=["POST"]),
            Route(own, self._of_session(self.describe), methods=["GET"]),
            Route(own + "/leave", self.leave, methods=["POST"]),
            Route(own + "/pictures", self._of_session(self.upload), methods=["POST"]),
            Route(picture, self._of_session(self.remove), methods=["DELETE"]),
            Route(picture + "/region", self._of_session(self.region), methods=["GET"]),
            Route(picture + "/mask", self._of_session(self.lay_mask), methods=["PUT"]),
            Route(picture + "/mask", self._of_session(self.mask), methods=["GET"]),
            Route(picture + "/{kind:str}", self._of_session(self.compute), methods=["POST"]),
            Route(own + "/results", self._of_session(self.results), methods=["POST"]),
            Route(own + "/adapt", self._of_session(self.adapt), methods=["POST"]),
            Route(own + "/jobs/{job}", self._of_session(self.job), methods=["GET"]),
            Route(own + "/jobs/{job}/stop", self._of_session(self.stop), methods=["POST"]),
            Route(own + "/files/{file}", self._of_session(self.file), methods=["GET"]),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
        handlers: dict[Any, Any] = {
            UserError: partial(messages.answer_error, 400),
            BusyError: partial(messages.answer_error, 429),
            HTTPException: messages.answer_http_error,
            Exception: messages.answer_fault,
        }
        inner = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        return Guard(inner, names, loopback)

    def close(self) -> None:
        """Stop all computations and delete all files."""
        self.jobs.close()
        self.sessions.close()

    async def start(self, request: Request) -> Response:
        """Start a session."""
        del request
        session = await run_in_threadpool(self.sessions.start)
        return JSONResponse({"token": session.token, **self._about(session)}, status_code=201)

    async def describe(self, request: Request, session: Session) -> Response:
        """Describe the session. The request is also the sign that the page is still open, or open again."""
        del request
        self.sessions.come_back(session)
        return JSONResponse(self._about(session))

    async def leave(self, request: Request) -> Response:
        """Note that the page closes or reloads."""
        self.sessions.leave(request.path_params["token"])
        return Response(status_code=204)

    async def upload(self, request: Request, session: Session) -> Response:
        """Receive a picture: its bytes are the body, and its name is in the query."""
        limits = self.studio.limits
        if len(session.pictures) >= limits.pictures:
            raise UserError(f"There are {limits.pictures} pictures already; remove one first.")
        upload = session.new_upload(request.query_params.get("name", ""))
        try:
            await messages.receive_file(request, upload, int(limits.megabytes * 1e6))
            facts = await run_in_threadpool(self.studio.open, session, upload)
        except BaseException:
            shutil.rmtree(upload.path.parent, ignore_errors=True)
            raise
        return JSONResponse(facts, status_code=201)

    async def remove(self, request: Request, session: Session) -> Response:
        """Delete a picture. The answer says which computations this has changed."""
        upload = _picture(request, session)
        others = {job.kind for job in self.jobs.under_way(session.token) if job.picture is None}
        ended = await run_in_threadpool(self.jobs.end_all, session.token, upload.id)
        if upload.id not in session.pictures:  # removed twice at once
            raise HTTPException(404)
        session.remove(upload.id)
        said = [f"{upload.name} is removed"]
        if any(job.kind == "result" for job in ended):
            said.append("its download was stopped")
        if "all" in others:
            said.append("the download of all goes on without it")
        if "adapt" in others:
            said.append("the adaptation that runs still learns from it, and deletes it when it ends")
        return JSONResponse({"message": "; ".join(said) + ".", "mattered": len(said) > 1})

    async def region(self, request: Request, session: Session) -> Response:
        """The noisy samples of a region at 1:1."""
        upload = _picture(request, session)
        try:
            values = [int(request.query_params[name]) for name in ("left", "top", "width", "height")]
        except (KeyError, ValueError):
            raise UserError("left, top, width and height are needed, in whole pixels") from None
        region = Region.within(values, upload.facts)
        data = await run_in_threadpool(self.studio.before, upload, region)
        return Response(data, media_type="application/octet-stream")

    async def lay_mask(self, request: Request, session: Session) -> Response:
        """Receive the mask of a picture: a byte for each pixel of its view. An empty body removes the mask."""
        upload = _picture(request, session)
        width, height = upload.facts["view"]
        data = await messages.receive_bytes(request, width * height)
        return JSONResponse(await run_in_threadpool(self.studio.lay_mask, session, upload, data))

    async def mask(self, request: Request, session: Session) -> Response:
        """The mask of a picture, as a file of the picture's size."""
        upload = _picture(request, session)
        data = await run_in_threadpool(mask_file, upload)
        if data is None:
            raise HTTPException(404)
        return messages.saved_as(data, f"{Path(upload.name).stem}_mask.png")

    async def compute(self, request: Request, session: Session) -> Response:
        """Queue a computation on one picture: ``view``, ``result`` or ``noise``."""
        upload, kind = _picture(request, session), request.path_params["kind"]
        body = await messages.receive_json(request)
        settings = _settings(body)
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
        return self._queue(session, kind, work, upload.id)

    async def results(self, request: Request, session: Session) -> Response:
        """Queue the clean files of all pictures."""
        body = await messages.receive_json(request)
        settings, formats = _settings(body), body.get("formats", {})
        if not isinstance(formats, dict) or not all(isinstance(suffix, str) for suffix in formats.values()):
            raise UserError("formats: a suffix by the id of each picture is needed")
        return self._queue(session, "all", partial(self.studio.results, session, settings, formats))

    async def adapt(self, request: Request, session: Session) -> Response:
        """Queue an adaptation to the session's pictures."""
        if not self.studio.describe(session)["adapt"]:
            raise HTTPException(404)
        minutes = (await messages.receive_json(request)).get("minutes")
        if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= MAX_MINUTES:
            raise UserError(f"minutes: a number up to {MAX_MINUTES:g} is needed")
        return self._queue(session, "adapt", partial(self.studio.adapt, session, float(minutes)))

    async def job(self, request: Request, session: Session) -> Response:
        """The state of a computation."""
        job = self._job(request, session)
        state = {"id": job.id, "state": job.state, "share": job.share, "message": job.message, "result": job.result}
        return JSONResponse({**state, "position": self.jobs.position(job)})

    async def stop(self, request: Request, session: Session) -> Response:
        """Stop a computation."""
        self.jobs.stop(self._job(request, session))
        return Response(status_code=204)

    async def file(self, request: Request, session: Session) -> Response:
        """A file that a computation made, by its id."""
        entry = session.files.get(request.path_params["file"])
        if entry is None:
            raise HTTPException(404)
        try:
            file = await run_in_threadpool(entry[0].open, "rb")  # once it is open, it may be deleted
        except FileNotFoundError:
            raise HTTPException(404) from None
        return messages.file_answer(file, entry[1])

    def _about(self, session: Session) -> dict[str, Any]:
        """A description of the session: what the page offers, its pictures, and the computations that it waits for."""
        jobs = {job.kind: job.id for job in self.jobs.under_way(session.token) if job.kind in _AWAITED}
        pictures = [upload.facts for upload in list(session.pictures.values())]
        return {**self.studio.describe(session), "pictures": pictures, "jobs": jobs}

    def _job(self, request: Request, session: Session) -> PageJob:
        job = self.jobs.get(session.token, request.path_params["job"])
        if job is None:
            raise HTTPException(404)
        return job

    def _queue(
        self, session: Session, kind: str, work: Callable[[PageJob], Any], picture: str | None = None
    ) -> Response:
        job = self.jobs.add(session.token, kind, work, picture, replace=kind in ("view", "loupe"))
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
            await asyncio.sleep(min(_LOOK, self.sessions.idle, self.sessions.grace))
            await run_in_threadpool(self.sessions.expire)


async def _index(request: Request) -> Response:
    del request
    return FileResponse(STATIC / "index.html")


def _settings(body: dict[str, Any]) -> dict[str, Any]:
    settings = body.get("settings", {})
    if not isinstance(settings, dict) or not settings.keys() <= _SETTINGS:
        raise UserError(f"settings: {', '.join(sorted(_SETTINGS))} are known")
    return settings


def _picture(request: Request, session: Session) -> Upload:
    upload = session.pictures.get(request.path_params["picture"])
    if upload is None:
        raise HTTPException(404)
    return upload

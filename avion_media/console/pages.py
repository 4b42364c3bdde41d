"""The console's routes: pages for operators, their actions, and what the page's script asks for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from avion_media.admin.operators import OperatorGate
from avion_media.console.drawing import Viewer, draw, draw_sections
from avion_media.console.live import LivePages
from avion_media.console.overview import Overview
from avion_media.console.sessions import Sessions
from avion_media.console.uploads import Uploads
from avion_media.domain.errors import Unavailable
from avion_media.domain.ids import InvalidId, parse_any_id
from avion_media.domain.keys import origin_paths
from avion_media.domain.media import WEBP_SUFFIX
from avion_media.domain.tasks import QUEUES
from avion_media.inspection import is_unknown, media_report
from avion_media.queue import TaskQueue
from avion_media.runtime import Runtime
from avion_media.tree import Tree

Endpoint = Callable[[Request], Awaitable[Response]]
_ASSETS: Final = {"console.css": "text/css", "console.js": "text/javascript"}
_MAX_FORM_BYTES: Final = 16 << 10
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})
_NOTICES: Final = {
    "replayed": "The dead letter is queued again.",
    "dropped": "The dead letter is gone.",
    "gone": "There is no such dead letter any more.",
    "killed": "The node was killed; its supervisor starts it again.",
    "not-running": "The node does not run.",
}


class Console:
    """The operator's page. ``uploads`` is there in development only: it lets whoever sees the page upload."""

    def __init__(
        self, runtime: Runtime, tree: Tree, gate: OperatorGate, sessions: Sessions, *, uploads: Uploads | None = None
    ) -> None:
        self._runtime = runtime
        self._tree = tree
        self._gate = gate
        self._sessions = sessions
        self._uploads = uploads
        self._overview = Overview(runtime, tree)
        self._live = LivePages(self._overview)
        self._may_kill = runtime.config.chaos.enabled
        sessions.believe(gate.accepts)

    def routes(self) -> list[BaseRoute]:
        """For the admin port's application."""
        routes: list[BaseRoute] = [
            Route("/", self._home),
            Route("/console/assets/{name}", self._asset),
            Route("/console/login", self._login_page),
            Route("/console/login", self._login, methods=["POST"]),
            Route("/console", self._page_for_operators(self._page)),
            Route("/console/media/{media_id}", self._page_for_operators(self._medium)),
            Route("/console/live", self._gate.required(self._follow)),
            Route("/console/logout", self._action(self._log_out), methods=["POST"]),
            Route("/console/letters/replay", self._action(self._replay), methods=["POST"]),
            Route("/console/letters/drop", self._action(self._drop), methods=["POST"]),
        ]
        if self._may_kill:
            routes.append(Route("/console/kill", self._action(self._kill), methods=["POST"]))
        if self._uploads is not None:
            uploads = self._uploads
            routes += [
                Route("/console/uploads", self._script_action(uploads.begin), methods=["POST"]),
                Route("/console/uploads/{media_id}/complete", self._script_action(uploads.complete), methods=["POST"]),
                Route("/console/uploads/{media_id}", self._gate.required(uploads.status)),
            ]
        return routes

    # -- who may

    def _page_for_operators(self, endpoint: Endpoint) -> Endpoint:
        """A browser without a session is sent to the login."""
        guarded = self._gate.required(endpoint)

        async def page(request: Request) -> Response:
            if not self._gate.is_operator(request):
                return RedirectResponse("/console/login", 303)
            return self._hardened(request, await guarded(request))

        return page

    def _action(self, act: Callable[[Request, dict[str, str]], Awaitable[Response]]) -> Endpoint:
        """A form of one of our own pages, sent by an operator."""

        async def checked(request: Request) -> Response:
            form = await _form(request)
            if not self._sessions.is_own_form(request, form.get("form_token")):
                return _refused("this form is not from a page of this console: reload it, and try again")
            try:
                return await act(request, form)
            except Unavailable as error:
                return HTMLResponse(
                    draw("unavailable.html", self._viewer(request), why=str(error)), 503, headers={"Retry-After": "1"}
                )

        return self._gate.required(checked)

    def _script_action(self, endpoint: Endpoint) -> Endpoint:
        """The same for requests of the page's script."""

        async def checked(request: Request) -> Response:
            if not self._sessions.is_own_form(request, request.headers.get("x-form-token")):
                return JSONResponse({"error": "reload the page"}, 403)
            return await endpoint(request)

        return self._gate.required(checked)

    def _viewer(self, request: Request) -> Viewer:
        return Viewer(
            form_token=self._sessions.form_token(request),
            origin=self._origin(request),
            may_kill=self._may_kill,
            may_upload=self._uploads is not None,
            may_log_out=not self._gate.is_open and self._sessions.is_open(request),
        )

    def _origin(self, request: Request) -> str:
        """Where this browser finds media."""
        if self._runtime.config.http.public_url:
            return self._runtime.config.http.public_url
        address = self._tree.address("http")
        if address is None:
            return ""
        host, port = address
        if host in _WILDCARDS:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname or "localhost"
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def _hardened(self, request: Request, response: Response) -> Response:
        """Nothing but our own style and script, pictures of the origin, and what goes to the store itself."""
        config = self._runtime.config.s3
        store = _site(config.public_endpoint_url or config.endpoint_url) or "https:"
        connect = f"'self' {store}" if self._uploads is not None else "'self'"
        pictures = _site(self._origin(request))
        if self._runtime.config.http.mode == "redirect":
            pictures += f" {store}"
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; style-src 'self'; script-src 'self'; connect-src {connect};"
            f" img-src 'self' data: {pictures}; form-action 'self'; base-uri 'none';"
            " frame-ancestors 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "no-store"
        return response

    # -- pages

    async def _home(self, _request: Request) -> Response:
        return RedirectResponse("/console", 303)

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            return Response("no such file\n", 404)
        content = files("avion_media.console").joinpath("assets", name).read_bytes()
        headers = {"Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
        return Response(content, media_type=_ASSETS[name], headers=headers)

    async def _page(self, request: Request) -> Response:
        viewer = self._viewer(request)
        sections = await draw_sections(self._overview, viewer)
        notice = _NOTICES.get(request.query_params.get("did", ""), "")
        return HTMLResponse(draw("console.html", viewer, sections=sections, notice=notice))

    async def _medium(self, request: Request) -> Response:
        viewer = self._viewer(request)
        try:
            any_id = parse_any_id(request.path_params["media_id"])
        except InvalidId as error:
            return HTMLResponse(draw("unavailable.html", viewer, why=str(error)), 404)
        config = self._runtime.config
        try:
            known = await media_report(config, self._runtime.store, self._runtime.redis, any_id)
        except Unavailable as error:
            return HTMLResponse(draw("unavailable.html", viewer, why=str(error)), 503)
        thumbnail_keys = [each["key"] for each in known["objects"] if each["key"].startswith("thumbnail/")]
        served = [key.split("/")[1] for key in thumbnail_keys if not key.endswith(WEBP_SUFFIX)]
        thumbnails = origin_paths(any_id, served).values()
        unknown = is_unknown(known)
        page = draw("medium.html", viewer, known=known, unknown=unknown, thumbnails=list(thumbnails))
        return HTMLResponse(page, 404 if unknown else 200)

    async def _follow(self, request: Request) -> Response:
        return self._live.stream(self._viewer(request), lambda: self._gate.is_operator(request))

    async def _login_page(self, request: Request) -> Response:
        if self._gate.is_operator(request):
            return RedirectResponse("/console", 303)
        return self._hardened(request, HTMLResponse(draw("login.html", self._viewer(request), wrong=False)))

    async def _login(self, request: Request) -> Response:
        """The form's own token is enough against foreign sites here: there is no session yet to abuse."""
        form = await _form(request)
        if not self._sessions.is_own_form(request, form.get("form_token")):
            return _refused("reload the page, and try again")
        token = form.get("token", "")
        if not self._gate.accepts(token):
            page = draw("login.html", self._viewer(request), wrong=True)
            return self._hardened(request, HTMLResponse(page, 401))
        response = RedirectResponse("/console", 303)
        self._sessions.begin(response, token, secure=request.url.scheme == "https")
        return response

    # -- actions

    async def _log_out(self, request: Request, _form: dict[str, str]) -> Response:
        response = RedirectResponse("/console/login", 303)
        self._sessions.end(request, response)
        return response

    async def _replay(self, _request: Request, form: dict[str, str]) -> Response:
        queue, entry_id = self._letter(form)
        return _done("replayed" if queue and await queue.dead_letters.replay(entry_id) else "gone", "letters")

    async def _drop(self, _request: Request, form: dict[str, str]) -> Response:
        queue, entry_id = self._letter(form)
        return _done("dropped" if queue and await queue.dead_letters.drop(entry_id) else "gone", "letters")

    def _letter(self, form: dict[str, str]) -> tuple[TaskQueue | None, str]:
        name = form.get("queue", "")
        queue = TaskQueue(self._runtime.redis, name) if name in QUEUES else None
        return queue, form.get("entry_id", "")

    async def _kill(self, _request: Request, form: dict[str, str]) -> Response:
        try:
            killed = self._tree.kill(form.get("path", ""))
        except LookupError:
            killed = False
        return _done("killed" if killed else "not-running", "tree")


async def _form(request: Request) -> dict[str, str]:
    """A small urlencoded form; empty when it is anything else."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_FORM_BYTES:
            return {}
    return {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}


def _done(what: str, section: str) -> Response:
    """Back to the page, which says what was done (303: a reload does it not again)."""
    return RedirectResponse(f"/console?did={quote(what)}#{section}", 303)


def _refused(why: str) -> Response:
    return Response(why + "\n", 403, media_type="text/plain", headers={"Cache-Control": "no-store"})


def _site(url: str) -> str:
    """Scheme, host and port of a URL, as a policy names them."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""

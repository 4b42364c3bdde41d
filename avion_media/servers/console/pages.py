"""The console's routes and pages. This module decides who may see a page; other modules decide what it shows."""

from __future__ import annotations

import math
import re
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from typing import Any, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import trio
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from avion_media.backends.queue import DEFAULT_RATE
from avion_media.common.clock import read_time
from avion_media.common.concurrency import Shared
from avion_media.common.credentials import Person, Role, fingerprint
from avion_media.common.errors import Dependency, MediaError, Unavailable
from avion_media.common.ids import InvalidId, parse_any_id
from avion_media.items.moderation import MAX_NOTE, Ground, notice_time
from avion_media.items.moderation.desk import Moderator
from avion_media.operations.dead_letters import read_causes, read_folded, read_page
from avion_media.operations.inspection import id_meant
from avion_media.operations.operation import NotAllowed, Order
from avion_media.operations.review import REASONS, Review
from avion_media.operations.table import Operations
from avion_media.process.audit.reading import AuditQuery
from avion_media.process.audit.record import Kind
from avion_media.process.runtime import Runtime
from avion_media.process.tree import Tree
from avion_media.servers.admin.operators import OperatorGate, address_of, person_of
from avion_media.servers.admin.throttle import TooManyAttempts
from avion_media.servers.console import wording
from avion_media.servers.console.drawing import ASSETS, About, LivePages, View, Viewer, asset, draw, draw_page
from avion_media.servers.console.health import Facts
from avion_media.servers.console.media_item import read_item
from avion_media.servers.console.media_list import MediaFilter, MediaPage, read_indexed, read_media, read_unfinished
from avion_media.servers.console.moderation import ModerationQuery, look_up, read_moderation
from avion_media.servers.console.prometheus import PrometheusCharts
from avion_media.servers.console.questions import ENDS, DeadLetterQuery, Question, Questions
from avion_media.servers.console.results import ActionResult, find_result, keep_result
from avion_media.servers.console.review import act, read_review
from avion_media.servers.console.sessions import Sessions, chosen, read_form
from avion_media.servers.console.uploads import Uploads
from avion_media.servers.settings import ServerSettings
from trio_telemetry import get_logger

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
_READ_S: Final = 5.0
_CAUSES_S: Final = 10.0  # for all viewers of one process
_REPLICAS_S: Final = 3.0  # the same
_REPLICAS_READ_S: Final = 1.0
_DEPENDENCIES: Final = {Dependency.REDIS: "Redis", Dependency.STORE: "The object store"}
_BROWSER: Final = "avion_media_review"
_BROWSER_ID: Final = re.compile("[0-9a-f]{16}")
AUDIT_LISTS: Final = {"": Kind.PEOPLE, "calls": Kind.CALLS, "refused": Kind.REFUSED}
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})
_log = get_logger(path="console")


class Console:
    """The operator's pages. ``uploads`` is set only in development: it lets every visitor of the page upload."""

    def __init__(
        self,
        runtime: Runtime,
        config: ServerSettings,
        tree: Tree,
        gate: OperatorGate,
        sessions: Sessions,
        operations: Operations,
        reviews: Review,
        *,
        uploads: Uploads | None = None,
    ) -> None:
        self._runtime = runtime
        self._redis = runtime.redis
        self._config = config
        self._tree = tree
        self._gate = gate
        self._sessions = sessions
        self._uploads = uploads
        self._live = LivePages()
        self._causes = Shared(partial(read_causes, runtime.redis), _CAUSES_S)
        self._replicas = Shared(lambda: runtime.replicas.read(time.time()), _REPLICAS_S)
        self._prometheus = PrometheusCharts(config.admin.prometheus_url)
        self._operations = operations
        self._reviews = reviews
        self._actions = operations.allowed
        environment = config.admin.environment
        self._about = About(version("avion-media"), socket.gethostname(), environment, runtime.consumer)
        spans = {"delete_delay": config.delete.delay, "evidence_keep": config.moderation.evidence_keep}
        self._questions = Questions(runtime, operations, spans)

    def routes(self) -> list[BaseRoute]:
        """Return the routes for the application on the admin port."""
        pages: dict[str, Endpoint] = {
            "/console": partial(self._plain, "overview"),
            "/console/queues": partial(self._plain, "queues"),
            "/console/dead-letters": self._dead_letters,
            "/console/media": self._media,
            "/console/media/{media_id}": self._media_item,
            "/console/moderation": self._moderation,
            "/console/moderation/{media_id}/preview": self._preview,
            "/console/moderation/{media_id}/evidence": self._evidence,
            "/console/review": self._review,
            "/console/system": partial(self._plain, "system"),
            "/console/audit": self._audit,
            "/console/confirm": self._confirm,
        }
        routes: list[BaseRoute] = [
            Route("/", RedirectResponse("/console", 303)),
            Route("/console/assets/{name}", self._asset),
            Route("/console/login", self._hardened(self._login_page)),
            Route("/console/login", self._hardened(self._login), methods=["POST"]),
            Route("/console/live", self._gate.required(self._follow)),
            Route("/console/logout", self._action(self._log_out), methods=["POST"]),
            Route("/console/actions", self._action(self._act), methods=["POST"]),
            Route("/console/review", self._action(self._judge), methods=["POST"]),
            *(Route(path, self._page_for_operators(endpoint)) for path, endpoint in pages.items()),
        ]
        if self._uploads is not None:
            request, complete, status = (
                partial(self._uploads.call, each)
                for each in ("RequestMediaUpload", "CompleteMediaUpload", "GetMediaStatus")
            )
            routes += [
                Route("/console/uploads", self._script_action(request), methods=["POST"]),
                Route("/console/uploads/{media_id}/complete", self._script_action(complete), methods=["POST"]),
                Route("/console/uploads/{media_id}", self._gate.required(status)),
            ]
        return [*routes, Route("/console/{rest:path}", self._page_for_operators(self._missing))]

    # -- who may see and do what

    def _page_for_operators(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint that redirects a browser without a session to the login, and back after it."""
        guarded = self._gate.required(self._shielded(endpoint))

        async def page(request: Request) -> Response:
            response = await guarded(request)
            if response.status_code == 401:
                path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
                query = "" if path == "/console" else f"?{urlencode({'next': path})}"
                return RedirectResponse(f"/console/login{query}", 303)
            return response

        return self._hardened(page)

    def _action(self, act: Callable[[Request, QueryParams], Awaitable[Response]]) -> Endpoint:
        """Return an endpoint that accepts a form only from a page of this console, sent by an operator."""

        async def checked(request: Request) -> Response:
            form = await read_form(request)
            if not self._sessions.is_own_form(request, form.get("form_token")):
                return self._error(
                    403,
                    "This form is too old",
                    "Nothing was done. The form was loaded before you logged in, or comes from another site."
                    " Load the page again and repeat the action.",
                )
            return await act(request, form)

        return self._hardened(self._gate.required(self._shielded(checked)))

    def _script_action(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint that accepts a request only from the page's script, with the token in a header."""

        async def checked(request: Request) -> Response:
            if not self._sessions.is_own_form(request, request.headers.get("x-form-token")):
                return JSONResponse({"error": "reload the page"}, 403)
            if person_of(request).role < Role.OPERATOR:
                return JSONResponse({"error": f"uploads need the role {Role.OPERATOR}"}, 403)
            return await endpoint(request)

        return self._gate.required(checked)

    def _shielded(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint that turns errors into pages.

        The status is 403 without the role, 503 if a dependency is unavailable, and 500 for other errors.
        """

        async def shielded(request: Request) -> Response:
            try:
                return await endpoint(request)
            except NotAllowed as error:
                return self._error(403, "Your role does not allow this", f"Nothing was done: {error}.")
            except Unavailable as error:
                return self._error(
                    503,
                    f"{_DEPENDENCIES.get(error.dependency, str(error.dependency).capitalize())} does not respond",
                    "This cannot be shown or done until it is back. No task is lost. Try again in a moment.",
                    detail=str(error),
                )
            except Exception as error:  # noqa: BLE001 - an operator needs a page that identifies any error
                error_id = secrets.token_hex(4)
                _log.error("console.internal_error", error_id=error_id, path=request.url.path, exc_info=error)
                return self._error(
                    500,
                    "The console has a bug",
                    "The service itself is not affected. The log has the cause under this id.",
                    detail=error_id,
                )

        return shielded

    def _hardened(self, endpoint: Endpoint) -> Endpoint:
        """Return an endpoint that adds the security headers.

        The policy allows only the console's own style, script and icons, images from the origin, and requests to the
        object store where the page needs them.
        """
        config = self._config.s3
        store = _site(config.public_endpoint_url or config.endpoint_url) or "https:"
        connect = f"'self' {store}" if self._uploads is not None else "'self'"

        async def hardened(request: Request) -> Response:
            response = await endpoint(request)
            pictures = _site(self._origin(request)) + (f" {store}" if self._config.http.mode == "redirect" else "")
            response.headers["Content-Security-Policy"] = (
                f"default-src 'none'; style-src 'self'; script-src 'self'; connect-src {connect};"
                f" img-src 'self' data: {pictures}; form-action 'self'; base-uri 'none';"
                " frame-ancestors 'none'"
            )
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Referrer-Policy"] = "same-origin"
            response.headers["Cache-Control"] = "no-store"
            self._sessions.keep(request, response)
            return response

        return hardened

    # -- what operators see

    async def _view(self, request: Request, page: str, query: Mapping[str, str] | None = None) -> View:
        runtime, observed = self._runtime, self._runtime.observed
        with suppress(Unavailable), trio.move_on_after(_REPLICAS_READ_S):
            await self._replicas.get()
        sizes = self._config.thumbnails.sizes
        return View(
            page,
            self._viewer(request),
            self._about,
            Facts(
                runtime.report(),
                self._tree.describe(),
                observed.history,
                time.time(),
                observed.held,
                self._replicas.last or (),
                observed.sampling_s,
            ),
            self._redis,
            min(sizes, key=lambda size: size.longest_edge).name if sizes else "",
            {name: read() for name, read in sorted(observed.limiters.items())},
            self._actions,
            self._causes,
            self._prometheus,
            dict(request.query_params) if query is None else query,
        )

    def _viewer(self, request: Request) -> Viewer:
        person = person_of(request)
        role = person.role
        return Viewer(
            form_token=self._sessions.form_token(request),
            origin=self._origin(request),
            name=person.name,
            role=role,
            may_upload=self._uploads is not None and role >= Role.OPERATOR,
            may_log_out=self._sessions.of(request) is not None,
        )

    def _origin(self, request: Request) -> str:
        """Return the base URL at which this browser finds media; empty if there is none."""
        if self._config.http.public_url:
            return self._config.http.public_url
        address = self._tree.address("http")
        if address is None:
            return ""
        host, port = address
        if host in _WILDCARDS:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname or "localhost"
        scheme = self._config.http.scheme
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    def _error(self, status: int, title: str, text: str, *, detail: str = "") -> Response:
        page = draw("error.html", about=self._about, status=status, title=title, text=text, detail=detail)
        headers = {"Retry-After": "1"} if status == 503 else None
        return HTMLResponse(page, status, headers)

    async def _draw(self, request: Request, template: str, view: View, **values: Any) -> Response:
        """Return a page. The result of the last action is at its top."""
        try:
            done = await find_result(self._redis, view.query.get("done", ""))
        except MediaError:
            done = None
        return HTMLResponse(await draw_page(template, view, done=done, **values))

    # -- pages

    async def _asset(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in ASSETS:
            return Response("no such file\n", 404)
        content, current = asset(name)
        is_current = request.query_params.get("v") == current
        headers = {
            "Cache-Control": "public, max-age=31536000, immutable" if is_current else "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
        return Response(content, media_type=ASSETS[name], headers=headers)

    async def _missing(self, request: Request) -> Response:
        return self._error(404, "No such page", f"There is no page {request.url.path} in this console.")

    async def _plain(self, name: str, request: Request) -> Response:
        """Return a page that consists of its regions."""
        return await self._draw(request, f"{name}.html", await self._view(request, name))

    async def _dead_letters(self, request: Request) -> Response:
        query = dict(request.query_params)
        wanted = DeadLetterQuery.from_query(query)
        before, after = query.get("before", ""), query.get("after", "")
        if wanted.is_unfolded:
            page = await _in_time(read_page(self._redis, wanted.selection(), before=before, after=after))
        else:
            page = await _in_time(read_folded(self._redis, wanted.selection(), before))
        if page is not None and not page.rows and not page.older and (before or after):
            return RedirectResponse(wanted.url(done=query.get("done", "")), 303)  # the rows of this page are gone
        if page is not None and page.rows and not before and not page.newer:
            query["newest"] = page.rows[0].newest.key
        view = await self._view(request, "dead-letters", query)
        causes, _ = await _in_time(self._causes.get()) or ((), 0)
        reasons = sorted({wanted.reason, *(each.newest.reason for each in causes)} - {""})
        return await self._draw(request, "dead-letters.html", view, wanted=wanted, page=page, reasons=reasons)

    async def _media(self, request: Request) -> Response:
        query = dict(request.query_params)
        wanted = MediaFilter.from_query(query)
        if (exact := id_meant(wanted.text, self._runtime.items.remote_ids)) is not None:
            return RedirectResponse(f"/console/media/{exact}", 303)
        view = await self._view(request, "media", query)
        before = query.get("before", "")
        if wanted.is_no_name:
            page: MediaPage | None = MediaPage((), "", "", 0)
        elif wanted.owner or wanted.host:
            page = await _in_time(read_indexed(self._runtime.items, wanted, view.smallest, before))
        elif wanted.state == "processing":
            page = await _in_time(read_unfinished(self._redis, wanted))
        else:
            page = await _in_time(read_media(self._redis, wanted, view.smallest, before))
        if page is not None and page.newest and not before:
            query["newest"] = page.newest
        return await self._draw(request, "media.html", view, wanted=wanted, page=page)

    async def _media_item(self, request: Request) -> Response:
        text = request.path_params["media_id"]
        try:
            any_id = parse_any_id(text)
        except InvalidId as error:
            return self._error(404, "No such media item", f"{text[:80]} is not an id: {error}.")
        item = await read_item(self._runtime.items, any_id, url_ttl_s=self._config.upload.url_ttl)
        view = await self._view(request, "media-item")
        response = await self._draw(request, "media-item.html", view, item=item)
        response.status_code = 404 if item.is_unknown else 200
        return response

    async def _moderation(self, request: Request) -> Response:
        query = dict(request.query_params)
        wanted = ModerationQuery.from_query(query)
        moderation = self._runtime.moderation
        page = await _in_time(read_moderation(moderation, self._config.moderation, wanted))
        answer = await _in_time(look_up(moderation, wanted.text)) if wanted.text and page is not None else None
        view = await self._view(request, "moderation", query)
        query["newest"] = max(view.facts.held, default="")
        claims = await _in_time(self._reviews.desk.claims()) or {}
        return await self._draw(
            request, "moderation.html", view, wanted=wanted, page=page, answer=answer, claims=claims
        )

    async def _review(self, request: Request) -> Response:
        by, view, page = self._moderator(request), await self._view(request, "review"), None
        if view.may("refuse"):  # a round claims what it shows
            page = await read_review(self._reviews, self._runtime.moderation, self._config.moderation, by)
        return await self._draw(request, "review.html", view, page=page, reasons=REASONS)

    async def _judge(self, request: Request, form: QueryParams) -> Response:
        self._reviews.require(person_of(request))
        by = self._moderator(request)
        goes_on = await act(self._reviews, by, form)
        response = RedirectResponse("/console/review" if goes_on else "/console/moderation", 303)
        response.set_cookie(_BROWSER, by.browser, httponly=True, samesite="strict", path="/console/review")
        return response

    def _moderator(self, request: Request) -> Moderator:
        """Return who reviews. Two browsers of one operator review different items."""
        known = request.cookies.get(_BROWSER, "")
        return Moderator(person_of(request).name, known if _BROWSER_ID.fullmatch(known) else secrets.token_hex(8))

    async def _preview(self, request: Request) -> Response:
        """Return the preview of a held or blocked media item. The audit log has which operator looks at it."""
        text = request.path_params["media_id"]
        looked = await self._operations.carry_out("look", Order([text], who=person_of(request)))
        if looked.problems:
            return self._error(404, "No preview", "Nothing is kept of this media item that could be shown.")
        return Response(looked.done[text]["picture"], media_type="image/jpeg")

    async def _evidence(self, request: Request) -> Response:
        """Return an archive of what is kept of a held or blocked media item."""
        text = request.path_params["media_id"]
        collected = await self._operations.carry_out("export_evidence", Order([text], who=person_of(request)))
        if collected.problems:
            return self._error(404, "No evidence", "Nothing is kept of this media item.")
        headers = {"Content-Disposition": f'attachment; filename="evidence-{text}.zip"'}
        return StreamingResponse(collected.done[text]["pieces"], media_type="application/zip", headers=headers)

    async def _audit(self, request: Request) -> Response:
        view = await self._view(request, "audit")
        before, text, of = (request.query_params.get(name, "").strip() for name in ("before", "q", "of"))
        query = AuditQuery((AUDIT_LISTS.get(of, Kind.PEOPLE),), text)
        entries, behind = await self._operations.recorded(query, before)
        older = wording.address("/console/audit", {"q": text, "of": of, "before": behind}) if behind else ""
        lists = {name: wording.address("/console/audit", {"q": text, "of": name}) for name in AUDIT_LISTS}
        shown = {"entries": entries, "older": older, "text": text, "of": of, "lists": lists}
        return await self._draw(request, "audit.html", view, **shown)

    async def _follow(self, request: Request) -> Response:
        page = request.query_params.get("page", "")
        return self._live.stream(partial(self._view, request, page), partial(self._gate.find, request))

    # -- actions

    async def _confirm(self, request: Request) -> Response:
        question = await self._questions.ask(request.query_params, person_of(request))
        return self._ask(request, question)

    def _ask(self, request: Request, question: Question | None, status: int = 200) -> Response:
        if question is None:
            return self._error(404, "Nothing to do", "Nothing was selected, or this action does not exist.")
        consequences = self._questions.consequences(question.action)
        named = {"about": self._about, "viewer": self._viewer(request), "question": question}
        return HTMLResponse(draw("confirm.html", **named, consequences=consequences), status)

    async def _act(self, request: Request, form: QueryParams) -> Response:
        question = await self._questions.ask(form, person_of(request))
        if question is None or not question.is_confirmed_by(form):
            return self._ask(request, question, 422 if "confirmed" in form else 200)
        try:
            order = _order_of(question.targets, form, person_of(request))
        except ValueError as error:
            return self._error(422, "This form has no valid time", f"Nothing was done: {error}.")
        outcome = await self._operations.carry_out(question.action.name, order)
        said = question.action.result(outcome) + (f" Note: {order.note}" if order.note else "")
        done = ""
        with suppress(Unavailable):  # the action was carried out: the next page only lacks the sentence
            done = await keep_result(self._redis, ActionResult(question.action.name, said, not outcome.problems))
        self._causes.forget()
        back = question.back
        return RedirectResponse(f"{back}{'&' if '?' in back else '?'}{urlencode({'done': done})}", 303)

    # -- sessions

    async def _login_page(self, request: Request) -> Response:
        wanted = _own_path(request.query_params.get("next", ""))
        if await self._gate.find(request) is not None:
            return RedirectResponse(wanted, 303)
        if self._gate.tokens is None:
            text = f"The proxy must send your name, and one of the roles {', '.join(map(str, Role))}."
            return self._error(403, "You have no role here", text)
        return self._draw_login(request, wanted)

    def _draw_login(self, request: Request, wanted: str, status: int = 200) -> Response:
        viewer = self._viewer(request)
        page = draw("login.html", about=self._about, viewer=viewer, next=wanted, is_wrong=status == 401)
        return HTMLResponse(page, status)

    async def _login(self, request: Request) -> Response:
        """Open a session if the operator's token is valid. A form of another site would open it for somebody else."""
        form = await read_form(request)
        wanted = _own_path(form.get("next") or "")
        if self._gate.is_foreign(request) or not self._sessions.is_own_form(request, form.get("form_token")):
            return self._error(403, "This form is too old", "Load the login page again, and repeat.")
        token = form.get("token") or ""
        try:
            is_accepted = self._gate.accepts(request, token)
        except TooManyAttempts as error:
            wait_s = math.ceil(error.wait_s)
            text = f"Too many wrong tokens came from your address. Try again in {wait_s} s."
            page = self._error(429, "Too many attempts", text)
            page.headers["Retry-After"] = str(wait_s)
            return page
        if not is_accepted:
            return self._draw_login(request, wanted, 401)
        response = RedirectResponse(wanted, 303)
        cookie = self._sessions.begin(response, token, name=form.get("name") or "")
        self._gate.throttle.accepted(address_of(request), fingerprint(cookie))
        return response

    async def _log_out(self, request: Request, _form: QueryParams) -> Response:
        response = RedirectResponse("/console/login", 303)
        await self._sessions.end(request, response)
        return response


async def _in_time(reading: Awaitable[T]) -> T | None:
    """Return what is read; None if a dependency does not respond in time."""
    with suppress(Unavailable, trio.TooSlowError), trio.fail_after(_READ_S):
        return await reading
    return None


def _order_of(targets: Sequence[str], form: QueryParams, who: Person) -> Order:
    """Return what a confirmed form asks for. Raises ValueError for a time that is none, or that has not come."""
    requested_at = form.get("requested_at") or ""
    return Order(
        targets,
        who=who,
        note=(form.get("note") or "").strip()[:MAX_NOTE],
        rate=_rate_of(form),
        for_s=float(chosen(form, "for_s", ENDS) or 0),
        ground=Ground(chosen(form, "ground", wording.GROUNDS)),
        requested_at=notice_time(read_time(requested_at)) if requested_at else "",
        until=form.get("until") or "",
    )


def _rate_of(form: QueryParams) -> float:
    """Return the rate that a form requests, in targets per second; the default if it is missing or invalid."""
    try:
        rate = float(form.get("rate") or DEFAULT_RATE)
    except ValueError:
        return DEFAULT_RATE
    return rate if 0 < rate < math.inf else DEFAULT_RATE


def _own_path(path: str) -> str:
    """Return ``path`` if it is a page of this console, else the overview. Prevents redirects to other sites."""
    parts = urlsplit(path)
    is_own = (
        not parts.scheme and not parts.netloc and (path == "/console" or path.startswith(("/console/", "/console?")))
    )
    return path if is_own and "\\" not in path and path.isprintable() else "/console"


def _site(url: str) -> str:
    """Return scheme, host and port of a URL, as a Content-Security-Policy needs them; empty without a host."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""

"""The sweeper: every replica with this role has one; one replica leads and runs the sweep."""

from __future__ import annotations

import math

import trio

from avion_media.backends.redis import Lock, LockLost, RedisFull
from avion_media.common.clock import utc_now
from avion_media.common.errors import MediaError, Unavailable
from avion_media.common.tasks import PROCESSING_QUEUE
from avion_media.common.telemetry import instruments
from avion_media.items.state.sweep_state import START, SweepState
from avion_media.operations.log import expire, note_lost
from avion_media.process.runtime import Runtime
from avion_media.workers.settings import WorkerSettings
from avion_media.workers.sweep import Reconciliation, Report
from supervisors import Child
from trio_telemetry import get_logger

_POLL_S = 5.0  # how often the leader checks whether a sweep is due
_FOLLOWER_S = 15.0  # how often the others try to lead
_FAILED_PAUSE_S = 60.0  # after a bug
_LEADER = "media_sweep_leader"
_LEADER_TTL_S = 30.0
_NOTE_TIME_S = 60.0


async def sweeper(runtime: Runtime, child: Child[None], *, config: WorkerSettings) -> None:
    """Lead, or wait to lead. After an outage the interrupted sweep continues at its last cursor."""
    child.started()
    with child.until_stopping():
        await _Sweeper(runtime, config, child.path).run()


class _Sweeper:
    def __init__(self, runtime: Runtime, config: WorkerSettings, path: str) -> None:
        self._runtime = runtime
        self._interval_s = config.sweep.interval
        self._keep_s = config.audit.keep
        self._leadership = Lock(runtime.redis, _LEADER, ttl_s=_LEADER_TTL_S)
        self._state = SweepState(runtime.redis)
        self._reconciliation = Reconciliation(runtime.replay, config)
        self._log = get_logger(path=path)
        self._note_time_at = -math.inf

    async def run(self) -> None:
        await self._runtime.store.wait()
        while True:
            try:
                if await self._leadership.acquire():
                    self._log.info("sweep.leadership_acquired")
                    async with self._leadership.held():
                        await self._work()
            except LockLost as error:
                self._log.warning("sweep.leadership_lost", detail=error.detail)
            except Unavailable as error:
                self._log.info("sweep.backed_off", dependency=error.dependency, detail=error.detail)
            except MediaError as error:
                # A sweep that fails must not stop the service: log the error, and try again later.
                self._log.error("sweep.failed", exc_info=error)
                await trio.sleep(_FAILED_PAUSE_S)
            await trio.sleep(self._runtime.redis.next_tick_s(_FOLLOWER_S))

    async def _work(self) -> None:
        while True:
            try:
                if self._runtime.lifecycle.accepting_tasks and await self._is_due():
                    await self._sweep()
            except RedisFull as error:  # another leader would not find more room
                self._log.info("sweep.backed_off", dependency=error.dependency, detail=error.detail)
            await trio.sleep(_POLL_S)

    async def _is_due(self) -> bool:
        await self._note_losses()
        known = await self._state.read()
        return known.cursor is not None or utc_now().timestamp() - known.finished_at >= self._interval_s

    async def _note_losses(self) -> None:
        """Record data losses, so that the next sweep looks for lost uploads.

        Lost removals become overdue later, and lost fetches are requested again.
        """
        queue = self._runtime.items.queues[PROCESSING_QUEUE]
        await self._state.history_complete_since(queue, utc_now(), remember=True)
        await self._replay_journal()

    async def _replay_journal(self) -> None:
        """Restore deletion records if some may be lost. Otherwise the next lookup would have to wait for that."""
        replay = self._runtime.replay
        await replay.ensure_complete()
        if trio.current_time() >= self._note_time_at:
            await replay.note_time()
            self._note_time_at = trio.current_time() + _NOTE_TIME_S

    async def _sweep(self) -> None:
        cursor = (await self._state.read()).cursor or START
        await self._state.save(cursor)
        telemetry, started, outcome = self._runtime.telemetry, trio.current_time(), "failed"
        try:
            report = await self._reconciliation.run(start=cursor, checkpoint=self._state.save)
            await self._state.finish(utc_now())
            outcome = "refused" if report.refusals else "done"
        except (Unavailable, trio.Cancelled):
            outcome = "interrupted"  # the next sweep continues from its cursor
            raise
        finally:
            telemetry.count(instruments.SWEEP_PASSES, outcome=outcome)
            telemetry.record(instruments.SWEEP_DURATION, trio.current_time() - started, outcome=outcome)
        for reason, counts in report.done.items():
            telemetry.count(instruments.SWEEP_MEDIA, counts.media, reason=str(reason))
        self._log_report(report)
        await note_lost(self._runtime)
        await expire(self._runtime, self._keep_s)

    def _log_report(self, report: Report) -> None:
        for refusal in report.refusals:
            self._log.error("sweep.refused", refusal=str(refusal), advice="avion-media sweep --dry-run, then --force")
        for doubt in report.warnings:
            self._log.warning("sweep.incomplete", doubt=doubt)
        found = {str(reason): counts.media for reason, counts in report.done.items()}
        self._log.info("sweep.done", listed=report.listed, removed=report.removed, skipped=report.skipped, **found)

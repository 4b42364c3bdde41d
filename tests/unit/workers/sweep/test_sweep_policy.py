"""The decision on one medium: each rule by example, and what must hold whatever the facts are."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avion_media.backends.store import ListedObject
from avion_media.common.errors import SERVICE_FAULTS, Reason
from avion_media.common.tasks import State
from avion_media.workers.sweep.policy import MEANINGS, KnownState, Medium, Rules, SweepReason, decide

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RULES = Rules(
    margin=timedelta(hours=1),
    url_ttl=timedelta(minutes=15),
    remote_ttl=timedelta(days=7),
    delete_delay=timedelta(hours=24),
    history_complete_since=datetime(2026, 1, 1, tzinfo=UTC),
)
UPLOAD = "01J" + "0" * 23
REMOTE = "ab" * 32
BEFORE_MEMORY_HOURS = 31 * 24.0


def listed(kind: str, age_hours: float) -> ListedObject:
    return ListedObject(kind, 10, "etag", NOW - timedelta(hours=age_hours))


def medium(
    name: str = UPLOAD,
    incoming: float | None = None,
    original: float | None = None,
    thumbnails: tuple[float, ...] = (),
    credentials: float | None = None,
) -> Medium:
    """A medium by the ages of its objects in hours."""
    return Medium(
        name,
        None if incoming is None else listed("incoming", incoming),
        None if original is None else listed("original", original),
        tuple(listed("thumbnail", age) for age in thumbnails),
        None if credentials is None else listed("credentials", credentials),
    )


def reason_for(medium: Medium, known: KnownState = KnownState()) -> SweepReason | None:  # noqa: B008 - frozen
    decision = decide(medium, known, RULES, NOW)
    return decision.reason if decision else None


@pytest.mark.parametrize(
    ("age", "state", "expected"),
    [
        (0.5, None, None),
        (1.1, None, None),  # the URL's life comes on top of the margin
        (1.3, None, SweepReason.ABANDONED),
        (0.5, State.PROCESSING, None),
        (1.1, State.PROCESSING, SweepReason.LOST_TASK),
        (0.5, State.FAILED, None),
        (1.1, State.FAILED, SweepReason.LEFTOVER),
        (1.1, State.READY, SweepReason.LEFTOVER),
        (BEFORE_MEMORY_HOURS, None, SweepReason.LOST_TASK),  # perhaps completed: nobody remembers
        (BEFORE_MEMORY_HOURS, State.FAILED, SweepReason.LEFTOVER),
    ],
)
def test_an_upload_without_original(age: float, state: State | None, expected: SweepReason | None) -> None:
    assert reason_for(medium(incoming=age), KnownState(state)) is expected


@pytest.mark.parametrize(
    ("state", "expected"),
    [(None, SweepReason.LEFTOVER), (State.READY, SweepReason.LEFTOVER), (State.PROCESSING, SweepReason.LOST_TASK)],
)
def test_an_upload_left_beside_its_original(state: State | None, expected: SweepReason) -> None:
    """While it still counts as processing, its event has not been sent: the task does that, and removes the upload."""
    decision = decide(medium(incoming=2, original=2, thumbnails=(2,)), KnownState(state), RULES, NOW)
    assert decision is not None
    assert decision.reason is expected
    assert [each.key for each in decision.to_delete] == (["incoming"] if expected is SweepReason.LEFTOVER else [])


@pytest.mark.parametrize("state", [None, State.PROCESSING])
def test_an_upload_whose_task_was_forgotten_a_moment_ago_is_processed_at_once(state: State | None) -> None:
    rules = replace(RULES, history_complete_since=NOW)
    decision = decide(medium(incoming=0.01), KnownState(state), rules, NOW)
    assert decision is not None
    assert decision.reason is SweepReason.LOST_TASK


@pytest.mark.parametrize(
    "each",
    [
        medium(incoming=50),
        medium(incoming=50, original=50),
        medium(thumbnails=(50,)),
        medium(REMOTE, original=500, thumbnails=(500,)),
    ],
)
def test_what_a_task_names_is_left_to_it(each: Medium) -> None:
    assert reason_for(each) is not None
    assert reason_for(each, KnownState(State.PROCESSING, has_task=True)) is None


def test_a_dead_letter_keeps_the_upload_that_a_replay_needs_and_nothing_else() -> None:
    assert reason_for(medium(incoming=50), KnownState(State.PROCESSING, given_up=True)) is None
    assert reason_for(medium(REMOTE, original=500), KnownState(given_up=True)) is SweepReason.EXPIRED


@pytest.mark.parametrize("reason", sorted(SERVICE_FAULTS))
@pytest.mark.parametrize("original", [None, 50])
def test_an_upload_that_failed_by_our_fault_may_be_replayed(reason: Reason, original: float | None) -> None:
    each = medium(incoming=50, original=original)
    assert reason_for(each, KnownState(State.FAILED, Reason.CORRUPT)) is SweepReason.LEFTOVER
    assert reason_for(each, KnownState(State.FAILED, reason)) is None


@pytest.mark.parametrize("name", [UPLOAD, REMOTE])
def test_thumbnails_or_credentials_without_original(name: str) -> None:
    assert reason_for(medium(name, thumbnails=(2, 3))) is SweepReason.ORPHAN
    assert reason_for(medium(name, thumbnails=(2, 0.5))) is None
    assert reason_for(medium(name, original=2, thumbnails=(2, 3), credentials=2)) is None
    assert reason_for(medium(name, credentials=2)) is SweepReason.ORPHAN
    assert reason_for(medium(name, thumbnails=(2,), credentials=0.5)) is None


def test_remote_media_expire_and_uploads_never_do() -> None:
    old, fresh = 24 * 8.0, 24 * 6.0
    assert reason_for(medium(REMOTE, original=fresh, thumbnails=(fresh,))) is None
    decision = decide(medium(REMOTE, original=old, thumbnails=(old, fresh)), KnownState(), RULES, NOW)
    assert decision is not None
    assert decision.reason is SweepReason.EXPIRED
    assert len(decision.to_delete) == 3
    assert reason_for(medium(UPLOAD, original=old, thumbnails=(old,))) is None


@pytest.mark.parametrize(
    ("used_days_ago", "expected"), [(6.9, None), (7.1, SweepReason.EXPIRED), (9, SweepReason.EXPIRED)]
)
def test_remote_media_live_by_their_last_use(used_days_ago: float, expected: SweepReason | None) -> None:
    known = KnownState(last_use=NOW - timedelta(days=used_days_ago))
    assert reason_for(medium(REMOTE, original=24 * 8.0), known) is expected
    assert reason_for(medium(REMOTE, original=24 * 6.0), known) is None


@pytest.mark.parametrize(("used_days_ago", "expected"), [(0.9, None), (1.1, SweepReason.EXPIRED)])
def test_a_kind_can_have_a_shorter_time(used_days_ago: float, expected: SweepReason | None) -> None:
    known = KnownState(last_use=NOW - timedelta(days=used_days_ago), ttl=timedelta(days=1))
    assert reason_for(medium(REMOTE, original=24 * 6.0), known) is expected


@pytest.mark.parametrize(
    ("deleted_hours_ago", "expected"), [(23, None), (24.5, None), (25.5, SweepReason.OVERDUE_DELETION)]
)
def test_a_deletion_is_overdue_only_when_it_cannot_be_undone_any_more(
    deleted_hours_ago: float, expected: SweepReason | None
) -> None:
    known = KnownState(State.DELETED, tombstone=NOW - timedelta(hours=deleted_hours_ago))
    each = medium(incoming=50, original=50, thumbnails=(50,))
    assert reason_for(each, known) is expected


def test_every_reason_is_explained() -> None:
    assert set(MEANINGS) == set(SweepReason)


ages = st.floats(0, 24 * 60)
media = st.builds(
    medium,
    name=st.sampled_from([UPLOAD, REMOTE]),
    incoming=st.none() | ages,
    original=st.none() | ages,
    thumbnails=st.lists(ages, max_size=3).map(tuple),
)
knowledge = st.builds(
    KnownState,
    state=st.none() | st.sampled_from(list(State)),
    tombstone=st.none() | ages.map(lambda hours: NOW - timedelta(hours=hours)),
    has_task=st.booleans(),
    given_up=st.booleans(),
)


@given(media, knowledge)
def test_what_is_never_removed(each: Medium, known: KnownState) -> None:
    decision = decide(each, known, RULES, NOW)
    if decision is None or not decision.to_delete:
        return
    assert set(decision.to_delete) <= set(each.objects)
    assert not known.has_task
    assert known.tombstone is None  # only the deletion's own task removes what was deleted
    if not each.is_remote:
        assert each.original not in decision.to_delete
    if each.incoming in decision.to_delete and each.incoming is not None:
        assert known.state is not State.PROCESSING
        assert known.state is not None or each.incoming.last_modified >= RULES.history_complete_since
    if decision.reason is not SweepReason.EXPIRED:
        assert all(NOW - each.last_modified > RULES.margin for each in decision.to_delete)

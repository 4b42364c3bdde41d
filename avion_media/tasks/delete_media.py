"""``media_delete_queue``: remove what was deleted, once its delay is over.

A task that came over the delayed set is void when its deletion was undone meanwhile. Any other (a foreign producer's)
is a deletion in itself: the tombstone first, then the removal.
"""

from __future__ import annotations

from avion_media.domain.errors import Reason
from avion_media.domain.ids import parse_any_id
from avion_media.domain.tasks import Confirm, Task, id_of
from avion_media.queue import StatusBoard
from avion_media.tasks.drop import removal_id
from avion_media.tasks.publish import Publisher
from avion_media.tasks.purge import Purges


class DeleteMedia:
    """See `TaskHandler`."""

    def __init__(self, board: StatusBoard, publisher: Publisher, purges: Purges) -> None:
        self._board = board
        self._publisher = publisher
        self._purges = purges

    async def run(self, task: Task, _confirm: Confirm) -> None:
        """See `TaskHandler.run`. What is removed twice is as gone as what is removed once."""
        any_id = id_of(task, parse_any_id)
        remembered = task.task_id == removal_id(str(any_id))
        if not await self._board.begin_removal(str(any_id), remembered=remembered):
            return  # undone within the delay
        sizes = await self._publisher.remove_objects(any_id)
        await self._purges.request(str(any_id), "removed", sizes)  # again: an answer on its way may be cached by now
        await self._board.publish_event("media.deleted", str(any_id), {})

    async def give_up(self, task: Task, reason: Reason) -> None:
        """See `TaskHandler.give_up`: there is no medium left to speak of."""

    async def renew_status(self, task: Task) -> None:
        """See `TaskHandler.renew_status`: a deletion record does not expire."""

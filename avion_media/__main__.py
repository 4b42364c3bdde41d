"""``avion-media``: the entry point. Imports little, so that the command line answers quickly."""

from __future__ import annotations

import sys

_SERVERS = ("serve", "dev")  # commands that a signal ends in order, with status 0


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] and sys.argv[1] in _SERVERS:
        from avion_media.process.early_stop import exit_on_signal

        exit_on_signal()  # before the imports below: they take a second
    if sys.platform == "linux":
        from trio_sandbox.kernel import close_to_others

        close_to_others()  # every command has the store's credentials in its environment
    from avion_media.cli import command_line

    command_line()


# The guard matters: worker processes may import this module again.
if __name__ == "__main__":
    main()

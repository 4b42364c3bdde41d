"""``avion-media``: the entry point. Imports little, so that the command line answers quickly."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from avion_media.cli import command_line

    command_line()


# The guard matters: worker processes may import this module again.
if __name__ == "__main__":
    main()

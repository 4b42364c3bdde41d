"""The bodies of the supervised children: each opens what it owns, says that it is ready, and ends when told to.

Which of them run, and how they stand to each other, is written in `avion_media.app`.
"""

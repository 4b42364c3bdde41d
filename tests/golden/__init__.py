"""The golden run: what `media/` makes of every file, recorded before a change of its structure and compared after it.

``python -m tests.golden record FILE`` writes a record, ``compare FILE`` exits with 1 when anything differs that
``allowed.toml`` does not name. Further directories of samples may follow FILE. The record belongs to one machine: the
bytes of thumbnails depend on the versions of the codecs.
"""

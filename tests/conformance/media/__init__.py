"""Files of other projects' tests, through the scrubber and the sandbox: ``python -m tests.conformance.media``.

No private tag may be left by exiftool's account, all pixels and samples must be those of the file, and nothing may
crash. What is refused is counted by its reason: many of these files are broken on purpose.
"""

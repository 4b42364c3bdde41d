"""Machines are shared: an example of Hypothesis may take its time."""

from __future__ import annotations

import hypothesis

hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

"""Settings of the tests."""

import hypothesis

hypothesis.settings.register_profile("untimed", deadline=None)  # machines are shared: an example may take its time
hypothesis.settings.load_profile("untimed")

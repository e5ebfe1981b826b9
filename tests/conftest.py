"""Settings of every test: no deadline for a single example, since test machines are shared."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("relink", deadline=None)
settings.load_profile("relink")

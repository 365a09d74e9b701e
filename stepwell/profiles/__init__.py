"""Profiles as files: a page with a roofline plot, and a trace for Perfetto and chrome://tracing."""

from __future__ import annotations

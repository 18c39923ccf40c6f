"""A fleet of real processes on this machine: started, hurt, watched and judged. For `worker dev`, demos and tests."""

from __future__ import annotations

"""Every case by name."""

from .families import causal, encoders, vision

CASES = {**encoders.CASES, **causal.CASES, **vision.CASES}

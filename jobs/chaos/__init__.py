"""Faults on purpose: a simulator, real kills, a proxy that breaks answers, and one checker after all."""

"""Objectives: a model, what it is asked, and how wrong it was; one a file."""

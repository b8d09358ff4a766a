"""What is learned: transformers for five kinds of data, built from parts that are found by name."""

from models.build import create_model, create_task, list_models

__all__ = ["create_model", "create_task", "list_models"]

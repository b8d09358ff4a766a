"""Datasets on storage: tar, index, manifest, commit, check. No ray."""

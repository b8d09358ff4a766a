"""The whole path on five kinds of data: `python -m jobs.demo`."""

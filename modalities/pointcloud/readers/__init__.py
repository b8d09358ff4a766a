"""One file format each: `inspect(raw)` checks the header in pure Python, `read(data)` makes arrays."""

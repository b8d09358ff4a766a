"""One file a format: `read(span)` walks the structure in pure Python, for a Header or BadSample."""

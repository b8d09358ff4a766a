"""List and open raw objects: files, object stores, tables of URIs, WebDataset tars, synthesis."""

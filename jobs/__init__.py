"""What is run: configuration, command line, ingest, train, infer."""

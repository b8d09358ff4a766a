"""Channel mixers, one a file: what a block does to each token by itself, or nearly so."""

"""The two layouts of a lighting folder, and the headers of the files in them."""

"""Jobs with measured results: a folder for each dataset, and what makes files of what packages ship."""

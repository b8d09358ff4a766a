"""Job files: one YAML a job, read into frozen models; every mistake with its line and what was meant."""

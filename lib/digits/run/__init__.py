"""The notebooks in sequence: parameters, papermill, provenance, comparison, the command line."""

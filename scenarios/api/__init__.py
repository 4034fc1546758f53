"""epicycle as a Python library: questions as functions, answers with `to_dict`, `to_pandas` and a look in a notebook."""

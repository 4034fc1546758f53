"""The exchange of expert parallelism in closed form: shapes, stages, protocols, expert compute."""

"""Studies: one question at many points, on all cores or a Dask cluster, each answer kept the moment it is there."""

"""Many seeds on many processors: run, keep, resume, join, tell.

`run.py` is the only file that knows the simulator. `drive` gives batches of seeds to an engine
(`processes`, `dask`, or one of another package), `results` keeps what it returns.
"""

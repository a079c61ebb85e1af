"""Jobs from Python: a pipeline is run by a function, and what it made is an object."""

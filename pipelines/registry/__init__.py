"""The registered student: how it is packaged, found and loaded, and the promotion gate between challenger and champion.

Imports inside functions keep MLflow out of processes that must start fast: a command that has nothing to do, and every scoring worker.
"""

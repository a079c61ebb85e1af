"""The command line: one command per stage, and those around the pipeline; every failure ends in one line and an exit code.

Imports inside functions keep torch, FAISS and templates out of commands that must start fast, such as `ctr-kd status`.
"""

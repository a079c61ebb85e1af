"""Scoring with a registered student: dates, files and texts, in parts, by this process, by workers or on Spark.

Imports inside functions keep FAISS and PySpark out of processes that must start fast: a scoring worker, and a command that needs neither.
"""

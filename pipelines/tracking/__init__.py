"""What MLflow is told: runs, metrics, data sets and files, through a queue that waits where the server does not answer.

Imports inside functions keep MLflow, which takes seconds, out of a command until a stage has work to do.
"""

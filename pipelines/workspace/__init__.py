"""The workspace of a pipeline: artifacts and their manifests, the lock, the runner of stages, and what a person sees meanwhile.

Nothing here imports torch or MLflow, so nothing is imported inside a function.
"""

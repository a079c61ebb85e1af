"""What the stages that train have in common: the BERT of earlier stages, what the teachers say, transfer sets, and a student's training.

Imports inside functions keep torch and scikit-learn out of a run that has nothing to do.
"""

"""Commands that train many students under one teacher or several and compare them.

Imports inside functions keep torch out of an experiment that has nothing to do.
"""

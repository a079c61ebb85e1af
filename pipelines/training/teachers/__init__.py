"""Teachers: whatever gives a row a logit, behind one protocol.

teacher         the protocol
bert, fitted    those that are trained here
logged_scores   what another model said, in the log or in files
mlflow_model    a model that MLflow loads
plugin          a class of somebody's own
choice          from the configuration to teachers
ledger          what teachers said of rows, so that none is asked twice
judgement       all of them asked about the rows of a run
first_look      what is wrong with them, before anything is trained
leak_check      whether a teacher looks better on rows that it teaches than on others
"""

"""What `ctr-kd tune` is made of.

space        which values of which keys are tried
study        what was tried so far, on disk, and what to try next: Optuna
trials       one trial: the stages from the rows to the student, and what the student is worth on validation
workers      the processes that trials run in
clock        what of the budget is left, and what still fits
search       which trial begins when, and what is made of how it ends
finals       the best trials with other seeds, beside the configuration as it is
result       what was found, in figures
tuned_file   the configuration with the values that won
"""

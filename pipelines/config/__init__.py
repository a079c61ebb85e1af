"""The YAML file of a run: every key with its meaning and its bounds; loading it, naming what is wrong with it, printing it back."""

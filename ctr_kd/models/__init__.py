"""Models, one file each; `students` and `teachers` turn a configuration into one of them."""

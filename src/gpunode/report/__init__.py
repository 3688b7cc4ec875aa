"""Results and progress as a person, or a program, reads them. `rich` is imported by what draws in colour only."""

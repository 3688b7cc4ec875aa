"""File formats as pure functions on text: no file is opened and no command is run here."""

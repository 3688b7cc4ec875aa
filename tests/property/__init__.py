"""Laws that hold for every input; a package, so that its files may be named as those in unit/ are."""

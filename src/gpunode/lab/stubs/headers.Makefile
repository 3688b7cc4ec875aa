# Stand-in for the headers of kernel @kernel@: enough for a stub module, not for a real one.
VERSION := @kernel@

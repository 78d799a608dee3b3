"""What `minimind COMMAND` runs: one function a command, one module a topic."""

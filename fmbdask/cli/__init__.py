"""The command line: one module a group of commands, each as thin as it can be."""

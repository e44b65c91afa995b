"""The command line: one small file for each command; no logic, only arguments and printing."""

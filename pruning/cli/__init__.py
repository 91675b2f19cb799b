"""The command line: flags, tables, and how it behaves towards the shell."""

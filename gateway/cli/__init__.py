"""The commands, in rooms by who gives them: `meter`, `office`, `service`, `tools`.

`commands.COMMANDS` lists them all: a new command is a function with typer's options, a line in that table, and
`make docs`. Its module is imported when the command is given, so it imports at its top what it needs.
"""

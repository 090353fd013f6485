"""The command line. `main` is the entry point; one file holds one command or one group of commands."""

from tollkeeper.cli.app import main as main

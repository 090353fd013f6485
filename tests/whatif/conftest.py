from cli.conftest import run as run

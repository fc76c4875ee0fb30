"""What the tests of the command line share."""

import pytest

from fastbp import cli


def run(capsys, *arguments):
    """Exit status, standard output and standard error of a command line."""
    with pytest.raises(SystemExit) as ended:
        cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err

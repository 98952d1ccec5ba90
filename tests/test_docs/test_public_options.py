"""No option of a config or a command line appears, goes or changes its default unnoticed."""
import difflib
import json

from public_options import FILE, public_options


def test_public_options_are_those_written_down():
    now = json.dumps(public_options(), indent=1).splitlines()
    difference = list(difflib.unified_diff(FILE.read_text().splitlines(), now, 'written down', 'now', lineterm='', n=1))
    assert not difference, '\n'.join([*difference, 'If that is meant, run python tests/public_options.py and say it in '
                                      'the documentation; what goes breaks configs of users.'])

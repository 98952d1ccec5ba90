"""Values as configs hold them, read from command lines and files."""
import pytest

from mmscalenet.engine.grown_config import as_written
from mmscalenet.engine.literals import read_literal, read_settings


@pytest.mark.parametrize('value', [
    2, -1.5, None, True, 'cyclic', [1, 2, (3, None)], dict(type='LoRA', inner=dict(a=[dict(b=1)])), {'a.b': 1}, {}])
def test_what_is_written_is_read(value):
    assert read_literal(as_written(value)) == value
    assert read_settings(f'first={as_written(value)}, second=1') == dict(first=value, second=1)


def test_fractions():
    assert read_literal('5/24') == 5 / 24 and read_literal('6/3') == 2 and isinstance(read_literal('6/3'), int)
    assert read_settings('scale=[1, 8/6], adapter=dict(ratio=1/2)') == dict(scale=[1, 8 / 6], adapter=dict(ratio=0.5))


@pytest.mark.parametrize('text', ['open("x")', 'dict(a=open("x"))', '__import__("os")', 'a', '1/N', '1/0', '1 + x', '',
                                  'dict(1)', '1)', 'x = 1'])
def test_nothing_is_run(text):
    with pytest.raises((SyntaxError, ValueError)):
        read_literal(text)

import pytest

from mmscalenet.expansion.layer_map import (
    LAYER_MAPS,
    added_positions,
    build_layer_map,
    num_positions,
    position_of_block,
)


@pytest.mark.parametrize('name, depth, scale, expected', [
    ('cyclic', 3, 2, [0, 1, 2, 0, 1, 2]),
    ('cyclic', 4, 1.5, [0, 1, 2, 3, 0, 1]),
    ('cyclic', 2, 3, [0, 1, 0, 1, 0, 1]),
    ('interleaved', 3, 2, [0, 0, 1, 1, 2, 2]),
    ('interleaved', 4, 1.5, [0, 0, 1, 2, 2, 3]),
    ('middle_cycle', 4, 2, [0, 1, 2, 1, 2, 1, 2, 3]),
    ('middle_cycle', 2, 2, [0, 1, 0, 1]),
])
def test_named_maps(name, depth, scale, expected):
    assert build_layer_map(name, depth, scale) == expected


def test_named_maps_move_whole_pairs_of_windows():
    assert build_layer_map('interleaved', 4, 2, period=2) == [0, 1, 0, 1, 2, 3, 2, 3]
    assert build_layer_map('middle_cycle', 6, 2, period=2) == [0, 1, 2, 3, 2, 3, 2, 3, 2, 3, 4, 5]


@pytest.mark.parametrize('name', LAYER_MAPS)
@pytest.mark.parametrize('depth', [1, 2, 3, 6, 12, 18])
@pytest.mark.parametrize('scale', [1, 1.5, 2, 3, 4])
@pytest.mark.parametrize('period', [1, 2])
def test_every_named_map_uses_every_block_first_in_order(name, depth, scale, period):
    if depth * scale % 1 or depth % period:
        return
    layer_map = build_layer_map(name, depth, scale, period)
    assert len(layer_map) == depth * scale
    firsts = [b for b, added in zip(layer_map, added_positions(layer_map), strict=True) if not added]
    assert firsts == list(range(depth))
    assert all(b % period == p % period for p, b in enumerate(layer_map))
    if scale == 1:
        assert layer_map == list(range(depth))


def test_taps_sit_at_the_same_relative_depth():
    assert [position_of_block(i, 12, 24) for i in (2, 5, 8, 11)] == [5, 11, 17, 23]
    assert [position_of_block(i, 12, 12) for i in range(12)] == list(range(12))
    taps = [position_of_block(i, 12, 18) for i in range(12)]
    assert taps[-1] == 17 and sorted(set(taps)) == taps


@pytest.mark.parametrize('scale', [0, -1, 0.5, float('nan'), float('inf'), '2', True, None])
def test_scale_must_grow(scale):
    with pytest.raises(ValueError, match='scale='):
        num_positions(12, scale)


def test_scale_must_give_whole_positions():
    assert num_positions(12, 4 / 3) == 16
    with pytest.raises(ValueError, match='15/12.*16/12'):
        num_positions(12, 1.3)


@pytest.mark.parametrize('layer_map, message', [
    ('circular', "layer_map='circular' is unknown.*cyclic"),
    ([0, 1, 3], 'hole.*\\[2\\]'),
    ([0, 1, 2, 4], 'layer_map\\[3\\]=4 is not a block; allowed are integers 0..3'),
    ([0, 1, 2, -1], 'layer_map\\[3\\]=-1'),
    ([0, 1, 2, 3.0], 'layer_map\\[3\\]=3.0'),
])
def test_bad_maps_are_refused(layer_map, message):
    with pytest.raises(ValueError, match=message):
        build_layer_map(layer_map, 4)


@pytest.mark.parametrize('scale', [-1, 'twice'])
def test_a_list_does_not_excuse_a_wrong_scale(scale):
    with pytest.raises(ValueError, match='scale='):
        build_layer_map([0, 1], 2, scale)


def test_broken_window_alternation_is_refused_with_the_reason():
    with pytest.raises(ValueError, match='position 1 needs a shifted block and block 0 is plain'):
        build_layer_map([0, 0, 1, 1], 2, period=2)
    with pytest.raises(ValueError, match='alternation'):  # an odd stage cannot be cycled
        build_layer_map('cyclic', 3, 2, period=2)
    assert build_layer_map([0, 0, 1, 1], 2, period=1) == [0, 0, 1, 1]

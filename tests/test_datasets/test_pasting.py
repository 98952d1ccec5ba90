"""Garments on photographs: what the backbones for Fashion scenes are pretrained on."""
import numpy as np
import pytest
from mmengine.registry import TRANSFORMS, init_default_scope

import mmscalenet  # noqa: F401
from mmscalenet.datasets.pasting import PasteOnPhotograph

GARMENT = np.zeros((28, 28), np.uint8)
GARMENT[6:22, 6:22] = 200


def piece(transform, image=GARMENT, index=0) -> np.ndarray:
    return transform(dict(img=image, gt_label=np.array(0), sample_idx=index))['img']


@pytest.fixture(scope='module', params=['train', 'val'])
def transform(request):
    init_default_scope('mmpretrain')
    return TRANSFORMS.build(dict(type='mmscalenet.PasteOnPhotograph', size=64, split=request.param))


def test_a_garment_is_put_on_a_piece_of_a_photograph(transform):
    for index in range(20):
        np.random.seed(index)
        empty = piece(transform, np.zeros_like(GARMENT), index)
        np.random.seed(index)
        image = piece(transform, GARMENT, index)
        assert image.shape == (64, 64, 3) and image.dtype == np.uint8
        changed = (image != empty).any(axis=2)
        assert 200 < changed.sum() < 0.8 * changed.size  # what is behind it is seen as well
        # one grey gives one tint: what was pasted and not mixed at an edge has one colour
        colours, counts = np.unique(image[changed], axis=0, return_counts=True)
        assert counts.max() > 0.5 * changed.sum()
        assert any((background[y:y + 64, x:x + 64] == empty).all() for background in transform.backgrounds
                   for y, x in np.argwhere((background[:-63, :-63] == empty[0, 0]).all(axis=2)))


def test_training_draws_anew_and_validation_does_not(transform):
    same = [(piece(transform, index=7) == piece(transform, index=7)).all() for _ in range(5)]
    assert all(same) if transform.split == 'val' else not any(same)
    assert (piece(transform, index=7) != piece(transform, index=8)).any()
    np.random.seed(0)
    first = piece(transform)
    np.random.seed(0)
    assert (piece(transform) == first).all()


def test_an_image_without_a_label_is_only_resized(transform):
    image = np.full((100, 80, 3), 7, np.uint8)
    assert (transform(dict(img=image))['img'] == np.full((64, 64, 3), 7)).all()


def test_the_splits_share_no_background():
    train, val = (np.stack(PasteOnPhotograph(split=split).backgrounds) for split in ('train', 'val'))
    assert len({image.tobytes() for image in (*train, *val)}) == 200


@pytest.mark.parametrize('arguments, words', [
    (dict(split='test'), "split must be one of train, val, got 'test'"),
    (dict(size=27), 'size must be from 28 to scene_size=224, got 27'),
    (dict(size=225), 'size must be from 28 to scene_size=224, got 225')])
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        PasteOnPhotograph(**arguments)

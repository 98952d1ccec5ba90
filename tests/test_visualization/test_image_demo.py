"""tools/visualization/image_demo.py: files in, pictures and JSON out."""
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

SCRIPT = 'visualization/image_demo.py'
FOLDER = {'cls': 'cls/class0', 'det': 'det/images', 'seg': 'seg/images'}


@pytest.mark.parametrize('task', ['cls', 'det', 'seg'])
def test_folder(task, request, write_config, weights, tool, tmp_path, tiny_data):
    """Images of the same name in subfolders and with other endings; other files are left alone."""
    config = write_config(request.getfixturevalue(f'{task}_fields'), task)
    first = sorted((tiny_data / FOLDER[task]).iterdir())[0]
    names = ['a.png', 'a.bmp', 'sub/a.png', 'sub/deep/a.PNG']
    for name in names:
        target = tmp_path / 'photos' / name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(first).save(target) if name.endswith('bmp') else shutil.copy(first, target)
    (tmp_path / 'photos/notes.txt').write_text('no image')
    out = tmp_path / 'photos/out'
    endings = ['json', 'png'] + ['map.png'] * (task == 'seg')
    for _ in range(2):  # the second time its own pictures lie among the images
        tool(SCRIPT, 'photos', config, weights(config), '--out', 'photos/out', '--device', 'cpu', '--batch-size', 3,
             '--score-thr', 0.01)
        written = {str(path.relative_to(out)) for path in out.rglob('*') if path.is_file()}
        assert written == {f'{name}.{ending}' for name in names for ending in endings}
    result = json.loads((out / 'sub/a.png.json').read_text())
    assert result.pop('image') == 'photos/sub/a.png'
    size = Image.open(first).size
    if task == 'cls':
        assert set(result) == {'label', 'name', 'score', 'top5'} and len(result['top5']) == 2
        assert Image.open(out / 'a.png.png').size == (224, 224)
        return
    assert Image.open(out / 'a.png.png').size == size
    if task == 'det':
        assert set(result) == {'boxes', 'labels', 'names', 'scores', 'masks'}
        assert set(result['names']) <= {'red', 'green'} and result['names']
        assert all(0 <= x1 <= x2 <= size[0] and 0 <= y1 <= y2 <= size[1] for x1, y1, x2, y2 in result['boxes'])
        assert rle.decode(result['masks']).shape == (*size[::-1], len(result['scores']))
        assert min(result['scores']) > 0.01
        return
    labels = np.array(Image.open(out / 'sub' / result['map']))
    assert labels.shape == size[::-1]
    for entry in result['classes']:
        assert entry['share'] == pytest.approx((labels == entry['label']).mean())
        assert entry['name'] == ('none', 'red', 'green')[entry['label']]


def test_pictures_may_go_beside_the_images(cls_fields, write_config, weights, tool, tmp_path, tiny_data):
    config = write_config(cls_fields)
    shutil.copytree(tiny_data / 'cls', tmp_path / 'photos')
    images = [path for path in (tmp_path / 'photos').rglob('*.*')]
    for _ in range(2):
        tool(SCRIPT, 'photos', config, weights(config), '--out', 'photos')
        assert len([path for path in (tmp_path / 'photos').rglob('*.*')]) == 3 * len(images)


def test_glob_and_single_image(cls_fields, write_config, weights, tool, tmp_path, tiny_data):
    config = write_config(cls_fields)
    checkpoint = weights(config)
    tool(SCRIPT, f'{tiny_data}/cls/*/[02].png', config, checkpoint, '--out', 'some')
    found = sorted(str(path.relative_to(tmp_path / 'some')) for path in (tmp_path / 'some').rglob('*.json'))
    assert found == ['0.png.json', '2.png.json']
    tool(SCRIPT, tiny_data / 'cls/class1/1.png', config, checkpoint)
    assert (tmp_path / 'work_dirs/image_demo/1.png.json').is_file()


def test_broken_image_is_named_and_the_others_are_done(cls_fields, write_config, weights, tool, tmp_path, tiny_data,
                                                       capfd):
    config = write_config(cls_fields)
    shutil.copytree(tiny_data / 'cls/class0', tmp_path / 'photos')
    cut = (tmp_path / 'photos/2.png').read_bytes()[:-300]
    (tmp_path / 'photos/2.png').write_bytes(cut)
    with pytest.raises(SystemExit) as stop:
        tool(SCRIPT, 'photos', config, weights(config), '--out', 'out', '--batch-size', 2)
    assert stop.value.code == 2
    error = capfd.readouterr().err
    assert 'warning: image "photos/2.png" cannot be read' in error
    assert error.splitlines()[-1] == 'error: images that cannot be read: photos/2.png'
    assert sorted(path.name for path in (tmp_path / 'out').glob('*.json')) == [f'{i}.png.json' for i in (0, 4, 6)]


def test_panoptic_model_is_refused(det_fields, write_config, weights, tool, tmp_path, tiny_data, capfd):
    kinds = dict(num_things_classes=2, num_stuff_classes=1)
    det_fields['model'] |= dict(
        type='PanopticFPN',
        semantic_head=dict(type='PanopticFPNHead', in_channels=16, inner_channels=8,
                           norm_cfg=dict(type='GN', num_groups=4), **kinds),
        panoptic_fusion_head=dict(type='HeuristicFusionHead', **kinds),
        test_cfg=dict(panoptic=dict(mask_overlap=0.5, stuff_area_limit=1)))
    config = write_config(det_fields)
    with pytest.raises(SystemExit) as stop:
        tool(SCRIPT, tiny_data / 'det/images/0.png', config, weights(config), '--out', 'out', '--device', 'cpu')
    assert stop.value.code == 2
    error = capfd.readouterr().err
    assert 'error: the model predicts pred_panoptic_seg' in error.splitlines()[-1] and 'Traceback' not in error
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('arguments, words', [
    (dict(input='nowhere'), '"nowhere"'),
    (dict(input='*.jpg'), '"*.jpg"'),
    (dict(checkpoint='nowhere.pth'), 'nowhere.pth'),
    (dict(config='nowhere.py'), 'nowhere.py'),
    ({'--score-thr': 2}, '--score-thr'),
    ({'--batch-size': 0}, '--batch-size'),
    ({'--device': 'abacus'}, '--device "abacus"'),
    ({'--cfg-options': 'model.backbone.scale=1'}, 'does not fit the config'),
])
def test_refused(arguments, words, cls_fields, write_config, weights, tool, tmp_path, tiny_data, capfd):
    config = write_config(cls_fields)
    positional = dict(input=tiny_data / 'cls', config=config, checkpoint=weights(config))
    options = {key: value for key, value in arguments.items() if key.startswith('--')}
    positional |= {key: value for key, value in arguments.items() if key not in options}
    with pytest.raises(SystemExit) as stop:
        tool(SCRIPT, *positional.values(), '--out', 'out', *(part for pair in options.items() for part in pair))
    assert stop.value.code == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith('error: ') and words in error
    assert not (tmp_path / 'out').exists()

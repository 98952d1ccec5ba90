"""A run whose head starts from a file: ``mmscalenet.PretrainedHead`` through tools/train.py."""
import torch
from test_train_options import refused


def test_a_run_starts_with_the_head_or_is_refused(cls_fields, cls_base, write_config, tool, tmp_path, capfd):
    """One line for a file without a head, and what that line says to do works."""
    path, head = tmp_path / 'file.pth', {'head.weight': torch.rand(2, 16), 'head.bias': torch.rand(2)}
    cls_fields['model']['head']['init_cfg'] = dict(type='mmscalenet.PretrainedHead', checkpoint=str(path))
    arguments = ('train.py', write_config(cls_fields), '--no-validate', '--cfg-options', 'train_cfg.max_epochs=1',
                 'optim_wrapper.optimizer.lr=0.')

    def result() -> torch.Tensor:
        return torch.load(tmp_path / 'work_dirs/tiny/epoch_1.pth', weights_only=False)['state_dict']

    assert f'the weights "{path}" do not exist' in refused(tool, capfd, *arguments)
    torch.save(cls_base, path)
    line = refused(tool, capfd, *arguments)
    assert f'{path} does not fit VisionTransformerClsHead: it has no head.layers.head.weight' in line
    tool(*arguments, line.split()[-1])
    assert line.endswith(' --cfg-options model.head.init_cfg=None')
    assert result()['head.layers.head.weight'].shape == (2, 16)

    torch.save({'model': {**cls_base, **head}}, path)
    tool(*arguments)
    assert all(result()[f'head.layers.{name}'].equal(value) for name, value in head.items())
    assert f'checkpoint {path}: head loaded' in ''.join(capfd.readouterr())

"""Print the whole config that a file stands for, with all it inherits.

    python tools/analysis_tools/print_config.py configs/mask_rcnn_scalenet_swin.py
    python tools/analysis_tools/print_config.py CONFIG --cfg-options model.backbone.scale=3 --save-path whole.py
"""
import argparse

from mmengine.config import Config, DictAction

from mmscalenet.engine import UsageError, load_config, one_line_errors, whole_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings for the config')
    parser.add_argument('--save-path', metavar='FILE.py', help='also write it to this file, a config of its own')
    parser.set_defaults(launcher='none', work_dir=None, local_rank=0)
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.save_path and not args.save_path.endswith('.py'):
        raise UsageError(f'--save-path "{args.save_path}": the name must end in .py.')
    cfg = load_config(args)
    # set for a run of this file, not by it
    for name in {'launcher', 'work_dir'} - {*Config.fromfile(args.config), *(args.cfg_options or {})}:
        cfg.pop(name)
    text = cfg.pretty_text
    print(text)
    if args.save_path:
        with whole_file(args.save_path) as path:
            path.write_text(text)


if __name__ == '__main__':
    main()

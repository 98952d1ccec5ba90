"""Print the whole config that a file stands for, with all it inherits.

    python tools/analysis_tools/print_config.py configs/mask_rcnn_scalenet_swin.py
    python tools/analysis_tools/print_config.py CONFIG --cfg-options model.backbone.scale=3 --save-path whole.py
"""
import argparse

from mmengine.config import DictAction

from mmscalenet.engine import UsageError, one_line_errors, read_config, whole_file


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, help='key=value settings for the config')
    parser.add_argument('--save-path', metavar='FILE.py', help='also write it to this file, a config of its own')
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    if args.save_path and not args.save_path.endswith('.py'):
        raise UsageError(f'--save-path "{args.save_path}": the name must end in .py.')
    text = read_config(args.config, args.cfg_options).pretty_text
    print(text)
    if args.save_path:
        with whole_file(args.save_path) as path:
            path.write_text(text)


if __name__ == '__main__':
    main()

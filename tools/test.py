"""Test a checkpoint with a config of mmpretrain, mmdet or mmseg."""
import argparse
import os

import mmscalenet  # noqa: F401  our names exist even where a config forgot custom_imports
from mmscalenet.engine import (
    add_common_arguments,
    add_depth_argument,
    build_runner,
    check_checkpoint,
    check_folder,
    load_config,
    name_missing_files,
    one_line_errors,
    require,
    use_depth,
)
from mmscalenet.engine.testing import check_results, results_dumper, show_results, use_tta


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='FILE.pkl', help='write the predictions to this pickle file')
    parser.add_argument('--show-dir', help='draw the predictions on the images and write them into this '
                        'folder, by the names of the images; of two with one name the later stays')
    parser.add_argument('--tta', action='store_true', help='test-time augmentation, as tta_model and tta_pipeline of '
                        'the config say (mmpretrain: flips, unless the config says otherwise)')
    add_depth_argument(parser)
    add_common_arguments(parser)
    return parser.parse_args()


@one_line_errors
def main() -> None:
    args = parse_args()
    cfg = load_config(args)
    check_checkpoint(args.checkpoint, 'checkpoint')
    require(cfg, 'model', 'test_dataloader', 'test_cfg', 'test_evaluator')
    cfg.load_from, cfg.resume = args.checkpoint, False
    use_depth(cfg, args.depth)
    if args.out:
        check_results(args.out)
    if args.show_dir:
        check_folder(args.show_dir, 'folder', '--show-dir')
        if cfg.launcher != 'none' and os.environ['LOCAL_RANK'] == '0':
            print('warning: of several processes the libraries let the first alone draw, so --show-dir gets its part '
                  'of the images; test in one process to have all of them', flush=True)
        show_results(cfg, os.path.abspath(args.show_dir))
    if args.tta:
        use_tta(cfg, shown=bool(args.show_dir))
    check_folder(cfg.work_dir, 'work directory', '--work-dir')
    with name_missing_files(cfg):
        runner = build_runner(cfg, testing=True)
        if args.out:
            runner.test_evaluator.metrics.append(results_dumper(cfg, args.out))
        runner.test()


if __name__ == '__main__':
    main()

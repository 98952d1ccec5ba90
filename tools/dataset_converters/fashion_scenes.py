"""Write Fashion scenes: garments of Fashion-MNIST on photographs, for detection, instance and semantic segmentation.

The folder appears whole or not at all, the same arguments give the same bytes, and a repeated run only checks it.
Training and validation share neither a garment nor a pixel of a background.

    images/{train,val}/000000.jpg ...
    annotations/instances_{train,val}.json    COCO; exact masks as run lengths; every tenth image has a crowd
    semantic/{train,val}/000000.png ...       0 unlabelled, 1 to 10 garments, from 11 on backgrounds
"""
import argparse

from prepare_fashion_mnist import prepare

from mmscalenet.datasets.showing import draw_scenes
from mmscalenet.datasets.writing import write_fashion_scenes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', default='data/fashion_scenes', help='folder to write; default: %(default)s')
    parser.add_argument('--train', type=int, default=12000, help='number of training scenes; default: %(default)s')
    parser.add_argument('--val', type=int, default=150, help='number of validation scenes; default: %(default)s')
    parser.add_argument('--size', type=int, default=224, help='side of the images; default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    parser.add_argument('--fashion-mnist', default='data/fashion_mnist',
                        help='folder of Fashion-MNIST, filled if it is not there; default: %(default)s')
    parser.add_argument('--show', metavar='FILE', help='also draw twenty training scenes into this PNG')
    args = parser.parse_args()
    try:
        source = prepare(args.fashion_mnist)
        out = write_fashion_scenes(args.out, source, args.train, args.val, args.size, args.seed)
        print(f'Fashion scenes are ready in {out}')
        if args.show:
            draw_scenes(out, args.show)
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error


if __name__ == '__main__':
    main()

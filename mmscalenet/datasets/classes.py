"""What Fashion scenes show, in the order of their labels, and the colours they are drawn in."""

#: Fashion-MNIST's classes, in its order: label i is category i + 1 in the COCO files and i + 1 in the semantic maps.
GARMENTS = ('t-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot')
GARMENT_PALETTE = ((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48), (145, 30, 180),
                   (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212))

#: The labelled backgrounds: stuff i is 11 + i in the semantic maps, in which 0 is unlabelled.
STUFF = ('brick', 'grass', 'gravel', 'coffee table', 'cat', 'stars', 'retina')
STUFF_PALETTE = ((128, 64, 32), (16, 96, 16), (128, 128, 128), (160, 110, 60), (215, 180, 130), (24, 24, 90),
                 (120, 20, 20))

# UperNet with 32 channels and the classes of Fashion scenes, for a CPU.
_base_ = './upernet.py'

model = dict(
    data_preprocessor=dict(size=(224, 224)),
    decode_head=dict(channels=32, num_classes=17),
    auxiliary_head=dict(channels=32, num_classes=17))

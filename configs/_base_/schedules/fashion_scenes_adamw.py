# The optimizer of detectors and segmentors on Fashion scenes.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, weight_decay=0.05),
    constructor='mmscalenet.LayerDecayOptimWrapperConstructor',
    clip_grad=dict(max_norm=5.))

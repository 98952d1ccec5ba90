"""What a checkpoint tells of a net that grows in the middle of its run."""
from collections.abc import Mapping

#: What DepthHook keeps in mmengine's message hub, and so in checkpoints: whether what added positions own has been
#: started, and the iterations of begin and end.
STARTED, PLACES = 'depth_hook_started', 'depth_hook_places'


def depth_noted(checkpoint: Mapping, name: str) -> list[int] | None:
    """At which depth the backbone of that name ran when a checkpoint was written, for each of its lists of positions.

    None where it does not say so, as files of bases do not.
    """
    meta = checkpoint.get('meta')
    depths = meta.get('depth') if isinstance(meta, Mapping) else None
    depth = depths.get(name) if isinstance(depths, Mapping) else None
    return depth if isinstance(depth, list) and all(type(one) is int for one in depth) else None


def is_before_growth(checkpoint: Mapping) -> bool:
    """Whether DepthHook wrote a checkpoint before it started what added positions own."""
    hub = checkpoint.get('message_hub')
    kept = hub.get('runtime_info') if isinstance(hub, Mapping) else None
    return isinstance(kept, Mapping) and PLACES in kept and not kept.get(STARTED)
